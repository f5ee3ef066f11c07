//! The text that the starter model has "read": six paragraphs about a cluster.
//!
//! Both the vocabulary and the output weights are counted from it, so a change
//! of one letter is another model with another digest.

/// Paragraphs separated by one empty line.
pub(super) const CORPUS: &str = "\
The cluster has three small machines and one large machine. The large machine has a graphics \
card and the small machines have none. A job waits in the queue until a machine has room for \
it. When the job starts, the machine loads the model into memory and sends the first token. \
When the job ends, the machine keeps the model warm for a while, and then it frees the \
memory.\n\n\
A scheduler reads the state of each machine and picks the one with the shortest queue. It \
likes a machine that has the model in memory, and it does not like a machine that is hot or \
busy. If a machine goes away, the scheduler gives its jobs to another machine. If no machine \
has room, the job waits in the queue.\n\n\
The message bus carries each request, each token and each heartbeat. A heartbeat says that \
the machine is alive, how much memory is free, and which models are warm. When three \
heartbeats are missing, the machine is gone and its jobs go back to the queue. The user sees \
a short pause and then the stream goes on.\n\n\
A small model answers a short question on a small machine. A large model answers a long \
question on the large machine. The router counts the tokens of the request, reads the price \
of each model and picks the small model when the small model is good enough. The user can \
always ask for the large model by name.\n\n\
At night the machines are quiet. The fans slow down, the disks sleep and the lights go out \
one by one. In the morning the first request wakes the large machine, the model loads from \
disk, and the stream of tokens starts again.\n\n\
Please read the log of the machine. The log says which job failed, why it failed and when it \
will be tried again. A job that failed three times goes to the dead letter queue, and the \
user gets an error with a name, a reason and a request id.\n\
";

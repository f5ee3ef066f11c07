# Short names for the verbs of `cargo xtask`, which does the work and has the help.

# List what can be done
default:
    @"{{ just_executable() }}" --list --unsorted

# Check the tools of this machine and fetch what is missing
setup *arguments:
    cargo xtask setup {{ arguments }}

# Build and start everything on this machine; Ctrl-C stops it
up *arguments:
    cargo xtask up {{ arguments }}

# The same: bring up the cluster to work on it
dev: up

# Run everything that CI runs, or the stages that are named
test *arguments:
    cargo xtask test {{ arguments }}

# Format the code
format:
    cargo xtask format

# Run the checks that are no tests
lint:
    cargo xtask test format rules unused text deny clippy rustdoc

# Print the path of llama-server, building it first if need be
llama-server *arguments:
    cargo xtask llama-server {{ arguments }}

# Build the programs as they are shipped, laid out by what they do under load
dist *arguments:
    cargo xtask dist {{ arguments }}

# Bring compose.yaml up for real and check it
docker *arguments:
    cargo xtask docker {{ arguments }}

# Measure how far the predicted starts of waiting jobs are off
eta *arguments:
    cargo xtask eta {{ arguments }}

# Remove what was built
clean *arguments:
    cargo xtask clean {{ arguments }}

#!/bin/sh
# The product as a start command of the bench: release binaries, file storage,
# default durability and log level. `cargo xtask bench` sets ORCHION_BIN_DIR (the
# folder of the binaries) and ORCHION_NATS_CONFIG (the product's own
# configuration of nats-server).
cd "$BENCH_SCRATCH" || exit 1
pids=""
run() {
	log=$1 && shift
	"$@" >>"$log.log" 2>&1 </dev/null &
	pids="$pids $!"
}
run nats nats-server -c "$ORCHION_NATS_CONFIG" -a 127.0.0.1 -p "$BENCH_NATS_PORT" -sd "$BENCH_SCRATCH/nats"
export ORCHION_NATS_URL="nats://127.0.0.1:$BENCH_NATS_PORT"
printf '[nats]\nsystem_user = "liveness"\n' >orchion.toml
for service in registry scheduler log-sink; do
	ORCHION_DATA_DIR="$BENCH_SCRATCH/$service" run "$service" \
		"$ORCHION_BIN_DIR/orchion-$service" --config orchion.toml
done
run gateway "$ORCHION_BIN_DIR/orchion-gateway" --config orchion.toml --http-port "$BENCH_PORT"
number=0
for engine in $BENCH_ENGINES; do
	number=$((number + 1))
	# The mock engine serves as many requests at once as it is asked for, and
	# goes on behind a given beginning; no probe can find that out.
	cat >"agent-$number.toml" <<-TOML
		[node-agent]
		probe = []
		starter = false
		[[node-agent.engines]]
		kind = "openai"
		url = "$engine"
		slots = 2048
		continuation = "text"
	TOML
	ORCHION_DATA_DIR="$BENCH_SCRATCH/agent-$number" run "agent-$number" \
		"$ORCHION_BIN_DIR/orchion-node-agent" --config "agent-$number.toml" --node-id "node-$number"
done
echo "$pids"

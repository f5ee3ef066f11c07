#!/bin/sh
# A start command that puts the floor in the product's place: every ratio of the
# table must then come out near 1, or the bench is at fault.
cd "$BENCH_SCRATCH" || exit 1
pids=""
run() {
	"$@" >>run.log 2>&1 </dev/null &
	pids="$pids $!"
}
run nats-server -a 127.0.0.1 -p "$BENCH_NATS_PORT"
until grep -qs 'Server is ready' run.log; do sleep 0.01; done
run "$BENCH_FLOOR" gateway --nats "127.0.0.1:$BENCH_NATS_PORT" --listen "127.0.0.1:$BENCH_PORT"
for engine in $BENCH_ENGINES; do
	run "$BENCH_FLOOR" agent --nats "127.0.0.1:$BENCH_NATS_PORT" --engine "$engine"
done
echo "$pids"

package clock

import "golang.org/x/sys/unix"

// On Darwin CLOCK_MONOTONIC counts suspend; CLOCK_UPTIME_RAW, which Go reads,
// does not.
const suspendClock = unix.CLOCK_MONOTONIC

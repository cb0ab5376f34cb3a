// Package clock measures elapsed time the way ownership needs it: an interval
// counts the time that the machine was suspended.
//
// Go's monotonic clock stops while the machine sleeps (golang/go#24595), but an
// etcd server elsewhere goes on counting the lease. Elapsed time is therefore
// the larger of Go's monotonic clock and a clock of the system that counts
// suspend. The larger, not the second alone, so that code on it also runs under
// testing/synctest, whose fake time only the first one follows.
package clock

import "time"

// A Stamp is a point in time. The zero Stamp is long ago.
type Stamp struct {
	mono time.Time
	boot time.Duration
}

// Now returns the present.
func Now() Stamp {
	return Stamp{mono: time.Now(), boot: sinceBoot()}
}

// Since returns the time elapsed since s, suspend included.
func Since(s Stamp) time.Duration {
	return max(time.Since(s.mono), sinceBoot()-s.boot)
}

// Boot returns the reading of the system's clock that counts suspend, at which
// d will have passed since s. Processes of one machine share that clock, so it
// can be handed to another one. It is zero where the system has no such clock.
func (s Stamp) Boot(d time.Duration) time.Duration {
	if s.boot == 0 {
		return 0
	}
	return s.boot + d
}

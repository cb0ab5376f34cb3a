package waitqueue

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// Limits of a request.
const (
	MaxNames   = 30        // of a set
	MaxPermits = 1_000_000 // of a semaphore
	MaxPurpose = 256       // bytes
	MaxZone    = 64        // bytes
	MaxValue   = 4096      // bytes: it travels in hints, of which a ticket has up to 18
	MaxDelay   = time.Hour
	MaxGrace   = 10 * time.Second
	MaxLocal   = 1<<16 - 1 // owners in a row of one local handover
)

// A Request says what to acquire, and how.
type Request struct {
	Names    []string // one, or for a Set several
	Mode     Mode
	Permits  int // wanted, and of how many
	Limit    int
	Priority int
	Rank     int    // among those of the priority; the smallest goes first
	Zone     string // why, for others to see
	Purpose  string
	Value    string        // that the owner begins with
	Apart    bool          // a place of its own in line, which others see, also behind another one of the session
	Delay    time.Duration // lock delay
	Grace    time.Duration // that a forced release leaves
	Deferred bool          // a release returns when it is queued
	LocalN   int           // local handover: owners in a row
	LocalFor time.Duration // and time in a row
	MaxHold  time.Duration // after which the ownership ends by itself; 0: never

	// OnePerLease: the lease owns the name at most once, whichever host acquires
	// for it. What it owns in the same way already is the answer, and where it
	// stands in line already it goes on waiting.
	OnePerLease bool

	// Lost makes the library's error of the cause of a lost ownership.
	Lost func(cause error) error
}

func (r *Request) bucket() bucket { return rankedBucket(r.Priority, r.Rank) }

// Check returns an error that is core.ErrInvalid and names the field.
func (r *Request) Check() error {
	err := errors.Join(r.checkNames(), keyspace.CheckText("purpose", r.Purpose, MaxPurpose),
		checkValue(r.Value),
		within("priority", r.Priority, MinPriority, MaxPriority),
		within("rank", r.Rank, 0, MaxRank),
		keyspace.CheckText("zone", r.Zone, MaxZone),
		within("lock delay", r.Delay, 0, MaxDelay),
		within("grace", r.Grace, 0, MaxGrace),
		within("local handover", r.LocalN, 0, MaxLocal),
		notNegative("local handover", r.LocalFor),
		notNegative("max hold", r.MaxHold))
	if r.Delay%time.Second != 0 {
		err = errors.Join(err, errors.New("lock delay: not a whole number of seconds"))
	}
	if r.OnePerLease && (r.Mode == Set || r.Delay > 0 || r.Deferred || r.LocalN > 0 || r.MaxHold > 0) {
		err = errors.Join(err, errors.New("one per session: not for several names, nor with a lock delay, a deferred release, a local handover or a max hold"))
	}
	if r.Mode == Permits {
		err = errors.Join(err, within("limit", r.Limit, 1, MaxPermits), within("permits", r.Permits, 1, max(r.Limit, 1)))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	return nil
}

func (r *Request) checkNames() error {
	if len(r.Names) == 0 || len(r.Names) > MaxNames {
		return fmt.Errorf("names: %d given, at least 1 and at most %d", len(r.Names), MaxNames)
	}
	for i, n := range r.Names {
		if err := keyspace.CheckName("name", n); err != nil {
			return err
		}
		if slices.Contains(r.Names[:i], n) {
			return fmt.Errorf("names: %q is given twice", n)
		}
	}
	return nil
}

func notNegative(field string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s: %v is negative", field, d)
	}
	return nil
}

func within[T int | time.Duration](field string, v, least, most T) error {
	if v < least || v > most {
		return fmt.Errorf("%s: %v is outside %v to %v", field, v, least, most)
	}
	return nil
}

package election

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// An Option sets up an election. Values outside their limits make every call
// return core.ErrInvalid.
type Option func(*options)

type options struct {
	request   waitqueue.Request
	seats     int
	preferred []string // zones, the best first
	overrun   func(Overrun)
	check     func(context.Context) error
	every     time.Duration
}

const (
	// defaultGrace is how long a leader that is asked to step down may take.
	defaultGrace = 5 * time.Second
	maxSeats     = 1000
)

// WithPriority puts the candidate ahead of those with a smaller priority, from
// -128 to 127. The default is 0. A leader is not interrupted by it.
func WithPriority(p int) Option {
	return func(o *options) { o.request.Priority = p }
}

// WithZone says in which zone the candidate runs: a data centre, a rack, at most 64
// bytes. Others see it in [Leader] and [Contender].
func WithZone(zone string) Option {
	return func(o *options) { o.request.Zone = zone }
}

// WithPreferredZones says where a leader had better be, the best zone first, at most
// 15. Among candidates of one priority those of the first zone go first, then those
// of the second, and those of other zones, or of none, at last; within a zone, who
// came first. A leader is not interrupted by it. It says where this candidate
// stands, hence all candidates should have the same list: one without a list
// stands with those of the best zone.
func WithPreferredZones(zones ...string) Option {
	return func(o *options) { o.preferred = slices.Clone(zones) }
}

// WithPurpose says what the candidate stands for, at most 256 bytes. Others see
// it in [Contender].
func WithPurpose(text string) Option {
	return func(o *options) { o.request.Purpose = text }
}

// WithGrace sets the time between the end of a term's context, when the leader is
// asked to step down, and the moment when the next one may lead without waiting
// any longer: at most 10 s, by default 5 s. It is also how long the function
// given to [Election.Run] may go on after its context ended before that is reported.
func WithGrace(d time.Duration) Option {
	return func(o *options) { o.request.Grace = d }
}

// WithOverrun has report called, beside the session's logger, when the function given
// to [Election.Run] goes on for longer than the grace after its context ended: to
// count it in a metric, or to end a process that cannot be trusted any more. It is
// called once a term, while that function still runs, and Run waits for it.
func WithOverrun(report func(Overrun)) Option {
	return func(o *options) { o.overrun = report }
}

// WithSeats elects up to k leaders at a time, from 1 to 1,000; the default is 1.
// All who use a name agree on it as long as anybody leads or stands, else
// [ErrSeatsMismatch]. With more than one seat [Election.Leader] and
// [Election.Observe] speak of the leader who has led longest.
func WithSeats(k int) Option {
	return func(o *options) { o.seats = k }
}

// WithHealth makes a leader that fails its own check resign. The check runs
// before the candidate stands, and every so often while it leads (at least 10 ms
// apart); its context ends after that time, which counts as a failure, and it
// has to return then.
//
// If the check fails the term's context ends with [ErrUnhealthy], and the next
// candidate leads when the term is resigned: by Resign, by [Election.Run] when
// its function has returned, or, of a term that nobody resigns, after the grace.
// Run stands again when the check passes.
func WithHealth(check func(ctx context.Context) error, every time.Duration) Option {
	return func(o *options) { o.check, o.every = check, every }
}

// WithOnePerSession makes the session, and not the candidate, the leader: it leads
// or stands at most once. Who campaigns while the session leads gets the same
// term again; who does while it stands waits in the same place, in whatever
// process the session was served before. It is for hosts that run elections for
// remote callers.
func WithOnePerSession() Option {
	return func(o *options) { o.request.OnePerLease = true }
}

// rank is the place of the candidate's zone among the preferred ones.
func (o *options) rank() int {
	for i, zone := range o.preferred {
		if zone == o.request.Zone {
			return i
		}
	}
	return len(o.preferred)
}

// validate returns an error that is core.ErrInvalid, for what the line does not
// check itself.
func (o *options) validate() error {
	err := keyspace.CheckName("name", o.request.Names[0])
	if len(o.preferred) > waitqueue.MaxRank {
		err = errors.Join(err, fmt.Errorf("preferred_zones: %d given, at most %d", len(o.preferred), waitqueue.MaxRank))
	}
	if o.seats < 1 || o.seats > maxSeats {
		err = errors.Join(err, fmt.Errorf("seats: %d is outside 1 to %d", o.seats, maxSeats))
	}
	if o.check != nil && o.every < 10*time.Millisecond {
		err = errors.Join(err, fmt.Errorf("health: every %v is less than 10ms", o.every))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	return nil
}

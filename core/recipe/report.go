package recipe

import (
	"context"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// A Checker is an [Instance] that knows whether it is well.
type Checker interface {
	// Check returns what is wrong, in words for an operator, or nil. It returns
	// soon, and within ctx. An instance that says that something is wrong goes on
	// serving; one that does not answer may be started again.
	Check(ctx context.Context) error
}

// A Collector is an [Instance] with metrics of its own.
type Collector interface {
	// Collect returns the instance's metrics as they are now. The host shows them
	// with the label recipe, and puts recipe_ before names that do not begin so;
	// what contradicts a name that another recipe took is left out.
	Collect(ctx context.Context) ([]*dto.MetricFamily, error)
}

// A Drainer is an [Instance] that ends its waiting calls in a way of its own,
// before its host ends them.
type Drainer interface {
	// Drain lets calls end that are under way, and ends those that wait, with what
	// they wait for left standing. It returns when none is left, or when ctx ends.
	// Calls that come meanwhile may be refused; Close follows.
	Drain(ctx context.Context) error
}

// A Reporter is an [Instance] that is not always ready: it stands for something
// that comes, goes and fails apart from its host.
type Reporter interface {
	// Report returns how the instance is, and a channel that is closed when that
	// is no longer so. It is safe for concurrent use, and returns at once.
	Report() (r Report, changed <-chan struct{})
}

// A Report says how an instance is.
type Report struct {
	State      State     // what it is doing
	Detail     string    // why, in words for an operator; may be empty
	Since      time.Time // when it came into that state
	Restarts   int64     // how often it was started again
	Version    string    // of what runs; empty: Info's
	Summary    string    // of what runs; empty: Info's
	Subprocess bool      // it runs in a process of its own
}

// A State is a place in the life of an instance.
type State int

// The states of an instance.
const (
	StateReady       State = iota // it serves
	StateStarting                 // it is being started
	StateDegraded                 // it serves, and says that something is wrong
	StateBackoff                  // it has failed and is started again after a pause
	StateQuarantined              // it failed too often, or for good, and stays down until somebody looks after it
	StateDraining                 // it takes no new calls and finishes those under way
	StateStopped                  // it does not run
)

// String returns the state's name, in lower case.
func (s State) String() string {
	names := [...]string{"ready", "starting", "degraded", "backoff", "quarantined", "draining", "stopped"}
	if s < 0 || int(s) >= len(names) {
		return "unknown"
	}
	return names[s]
}

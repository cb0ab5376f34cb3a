package watch

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Defaults of ObserveOptions.
const (
	DefaultStaleAfter = 15 * time.Second
	DefaultQuiet      = 5 * time.Second
	DefaultBuffer     = 16 << 20
)

// ObserveOptions change how Observe works; the zero value is a good choice.
type ObserveOptions struct {
	// Stale is told true when nothing has been heard from the cluster for
	// StaleAfter, with what went wrong last, and false when something is heard
	// again. Calls never overlap and end with the observation; they come from
	// other goroutines than the loop's, must not block, and must not end the loop.
	Stale func(stale bool, cause error)
	// StaleAfter is 0 for DefaultStaleAfter. Less than three times Quiet would
	// call a prefix stale that is merely quiet.
	StaleAfter time.Duration
	// Quiet is the silence after which the server is asked for a sign of life; a
	// second one opens the watch again, on another stream. 0 is DefaultQuiet.
	Quiet time.Duration
	// Buffer is how many bytes of events may wait for the loop; beyond it they
	// are dropped, and a Resync makes up for them. 0 is DefaultBuffer.
	Buffer int
	// Streams is shared by the watches of one client; nil stands for a new one.
	Streams *Streams
	// Logger hears at debug level why the watch was opened again; nil is silent.
	Logger *slog.Logger
}

// Observe follows every key that begins with prefix: first one Batch with the
// complete list, read linearizably, then one Batch for each revision that
// changed something, in order, none twice. It goes on across reconnects, members
// without a leader and expired tokens. Where single revisions cannot be had,
// because they were compacted, or dropped since the loop is too slow for them, it
// reads the list again and delivers the difference as one Batch with Resync.
//
// The sequence ends when the caller leaves the loop, or with one last pair that
// has an error: ctx's cause, or a *LostError if etcd refuses the prefix for good
// or the client was closed. Nothing outlives the loop. Each range over the
// sequence is an observation of its own.
//
// It keeps the last value of every key of the prefix in memory.
func Observe(ctx context.Context, c *clientv3.Client, prefix string, opts ObserveOptions) iter.Seq2[Batch, error] {
	opts = opts.withDefaults()
	return func(yield func(Batch, error) bool) {
		o := newObserver(c, prefix, opts)
		defer o.pulse.close()
		err := o.run(ctx, func(b Batch) bool { return yield(b, nil) })
		if !errors.Is(err, errLeft) {
			yield(Batch{}, err)
		}
	}
}

func (o ObserveOptions) withDefaults() ObserveOptions {
	if o.StaleAfter == 0 {
		o.StaleAfter = DefaultStaleAfter
	}
	if o.Quiet == 0 {
		o.Quiet = DefaultQuiet
	}
	if o.Buffer == 0 {
		o.Buffer = DefaultBuffer
	}
	if o.Streams == nil {
		o.Streams = new(Streams)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

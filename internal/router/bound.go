package router

import (
	"context"
	"sync"
	"time"
)

// A bound is the context of a call with a deadline, whose timer runs only once
// somebody asks for its channel, which short calls never do.
type bound struct {
	context.Context
	end time.Time

	mu     sync.Mutex
	made   context.Context // nil until somebody asks
	cancel context.CancelFunc
	over   bool // the call has ended
}

// Deadline implements [context.Context].
func (b *bound) Deadline() (time.Time, bool) { return b.end, true }

// asked returns the context that answers; nil: the transport's does, which has not
// ended, and the deadline has not passed.
func (b *bound) asked(must bool) context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made == nil && (must || b.Context.Err() != nil || !time.Now().Before(b.end)) {
		b.made, b.cancel = context.WithDeadline(b.Context, b.end)
		if b.over {
			b.cancel()
		}
	}
	return b.made
}

// Done implements [context.Context].
func (b *bound) Done() <-chan struct{} { return b.asked(true).Done() }

// Err implements [context.Context].
func (b *bound) Err() error {
	if made := b.asked(false); made != nil {
		return made.Err()
	}
	return nil
}

// Value implements [context.Context]. Package context finds the timer by it.
func (b *bound) Value(key any) any {
	b.mu.Lock()
	made := b.made
	b.mu.Unlock()
	if made != nil {
		return made.Value(key)
	}
	return b.Context.Value(key)
}

// release lets go of the timer: the call has ended.
func (b *bound) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over = true; b.cancel != nil {
		b.cancel()
	}
}

package coretest

import (
	"errors"
	"fmt"
	"sync"
)

// ErrStale means that a write carried a smaller token than one that the resource had seen for the same name: its sender's ownership was over.
var ErrStale = errors.New("stale token")

// FencedResource is something that a lock protects, in memory, as a real one should be: it keeps the greatest token that it has seen per
// name and refuses smaller ones. Beside that it takes writes without looking, and counts what a resource without the check would have
// let through. The zero value is ready, and its methods may be called from any goroutine.
type FencedResource struct {
	mu    sync.Mutex
	names map[string]fenced
	count FencedCounts
}

type fenced struct {
	highest int64
	value   string
}

// FencedCounts says what became of the writes to a [FencedResource].
type FencedCounts struct {
	Accepted        int // writes that were in order, checked or not
	Refused         int // stale writes that Write refused
	UnfencedStale   int // stale writes that WriteUnfenced let through
	UnfencedInOrder int // the part of Accepted that came through WriteUnfenced
}

// Write stores value under name unless token is smaller than one seen before: then nothing changes and the error wraps ErrStale.
// An owner may write with its token as often as it likes.
func (r *FencedResource) Write(name string, token int64, value string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seen := r.names[name].highest; token < seen {
		r.count.Refused++
		return fmt.Errorf("%w: %q: %d after %d", ErrStale, name, token, seen)
	}
	r.count.Accepted++
	r.store(name, token, value)
	return nil
}

// WriteUnfenced stores value whatever the token, and counts whether Write would have refused it.
func (r *FencedResource) WriteUnfenced(name string, token int64, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seen := r.names[name].highest; token < seen {
		r.count.UnfencedStale++
		r.store(name, seen, value)
		return
	}
	r.count.Accepted++
	r.count.UnfencedInOrder++
	r.store(name, token, value)
}

func (r *FencedResource) store(name string, highest int64, value string) {
	if r.names == nil {
		r.names = map[string]fenced{}
	}
	r.names[name] = fenced{highest: highest, value: value}
}

// Read returns the value under name and the greatest token seen for it; zero values for a name never written.
func (r *FencedResource) Read(name string) (value string, highest int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[name]
	return n.value, n.highest
}

// Counts returns the counts so far.
func (r *FencedResource) Counts() FencedCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

package waitqueue

import (
	"errors"
	"strings"
)

// A yieldedError is the cause of a context that ended although the name is still
// owned: its owner has been asked to let go in order.
type yieldedError struct{ error }

func (e *yieldedError) Unwrap() error { return e.error }

// Yield ends the ownership's context with cause and leaves the name owned until
// Release, which then returns what became of the release, and no loss.
func (o *Owned) Yield(cause error) { o.ctx.End(&yieldedError{cause}) }

// Because makes the next owner's record say that the ownership ended for this cause,
// one of those in Prev, in place of a release. The first call counts. Of by the
// first 256 bytes are kept.
func (o *Owned) Because(cause, by string) {
	o.t.because(cause, strings.ToValidUTF8(by[:min(len(by), MaxPurpose)], ""))
}

// loss returns cause if the ownership ended against its owner's will.
func loss(cause error) error {
	if _, yielded := errors.AsType[*yieldedError](cause); yielded {
		return nil
	}
	return cause
}

// Attached returns what the library keeps with the ownership, made by the first
// who asks.
func (o *Owned) Attached(first func() any) any {
	o.attach.Do(func() { o.attached = first() })
	return o.attached
}

package workqueue

import (
	"errors"
	"fmt"

	"github.com/conclavehq/conclave/internal/commit"
)

// A kind is what a step does with the item of a delivery. Those of unknown outcome are
// kept apart: what one of them has done is not what another one asks for.
type kind uint8

const (
	plainAck   kind = 1 << iota
	effectsAck      // with effects
	givesBack       // it goes back, or to the dead letters
)

// asks returns the kinds that do what a step of kind k asks for.
func (k kind) asks() kind {
	if k == plainAck {
		return plainAck | effectsAck
	}
	return k
}

func (s *step) kind() kind {
	switch {
	case !s.ack:
		return givesBack
	case len(s.ops()) > 0:
		return effectsAck
	default:
		return plainAck
	}
}

// unsure notes that a step of unknown outcome was sent.
func (v *Delivery) unsure(k kind) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.doubts |= k
}

// sure says that nothing is in doubt any more.
func (v *Delivery) sure() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.doubts = 0
}

func (v *Delivery) inDoubt() kind {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.doubts
}

// endStale ends the delivery here for a cause, unless a verb has found out that it was
// acked.
func (v *Delivery) endStale(cause error) {
	v.mu.Lock()
	acked := v.acked != 0
	v.mu.Unlock()
	if acked {
		cause = v.d.cfg.Released
	}
	v.end(cause)
}

// judge says what became of a step of kind k that found no delivery although its session
// stands. Nobody else takes the deliveries of a session that stands, so a step whose
// reply was lost did.
func (v *Delivery) judge(k kind) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	doubts, asks := v.doubts, k.asks()
	switch {
	case doubts&asks == 0:
		if acks := plainAck | effectsAck; doubts&^acks == 0 {
			v.acked, v.doubts = doubts, 0
		} else if doubts&acks == 0 {
			v.doubts = 0
		}
		return ErrStale
	case doubts&^asks == 0:
		v.doubts = 0
		return nil
	default:
		return fmt.Errorf("%w: of two verbs one was applied", commit.ErrUnknown)
	}
}

// why returns what a step of kind k is told on a delivery that is over: nil if it was
// acked as asked.
func (v *Delivery) why(k kind) error {
	lapsed := v.Lapsed()
	v.mu.Lock()
	over, acked := v.over, v.acked
	v.mu.Unlock()
	switch asks := k.asks(); {
	case acked&asks != 0 && acked&^asks == 0:
		return nil
	case acked&asks != 0:
		return fmt.Errorf("%w: one of two acks was applied", commit.ErrUnknown)
	case acked != 0:
		return ErrStale
	}
	if lapsed == nil && (over == nil || errors.Is(over, v.d.cfg.Released)) {
		return ErrStale // another verb settles it, or has
	}
	if lapsed == nil {
		lapsed = over
	}
	return v.ended(k, lapsed)
}

// ended returns what a step of kind k is told on a delivery that ended for a cause: that,
// or that nobody knows whether an earlier one like it was applied.
func (v *Delivery) ended(k kind, cause error) error {
	if v.inDoubt()&k.asks() == 0 {
		return cause
	}
	if v.d.e.Session().Err() != nil {
		return fmt.Errorf("%w: %w", commit.ErrUnknown, ended(v.d.e))
	}
	return fmt.Errorf("%w: %s", commit.ErrUnknown, cause.Error()) // it need not be stale
}

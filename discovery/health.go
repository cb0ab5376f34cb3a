package discovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclavehq/conclave/core"
)

// A Probe looks at an instance once: nil says that it is well, an error that is
// [ErrWarning] that somebody should look, any other error that it fails. It has
// to return when ctx ends.
type Probe func(ctx context.Context) error

// ErrWarning marks the error of a [Probe] after which requests may still come.
var ErrWarning = errors.New("warning")

// The defaults of checks.
const (
	defaultInterval = 10 * time.Second
	defaultTimeout  = 5 * time.Second
	defaultRise     = 2
	defaultFall     = 3
)

// A Check says how often to probe, and how much to believe. Zero values are the
// defaults.
type Check struct {
	Probe    Probe         // required
	Interval time.Duration // between two probes: 10 s
	Timeout  time.Duration // of one probe: 5 s, and never more than the interval
	Rise     int           // successes in a row after which it is well again: 2
	Fall     int           // failures in a row after which it is not: 3
}

func (c Check) normal() (Check, error) {
	if c.Interval == 0 {
		c.Interval = defaultInterval
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Rise == 0 {
		c.Rise = defaultRise
	}
	if c.Fall == 0 {
		c.Fall = defaultFall
	}
	c.Timeout = min(c.Timeout, c.Interval)
	if c.Probe == nil || c.Interval < 0 || c.Timeout < 0 || c.Rise < 0 || c.Fall < 0 {
		return c, fmt.Errorf("%w: check: it needs a probe, and nothing in it may be negative", core.ErrInvalid)
	}
	return c, nil
}

// Monitor probes until ctx ends, and calls tell with the first state, after the
// first probe, and with every change of it, together with what the last probe
// said. It changes its mind only after as many probes in a row as the check says,
// so that one lost packet takes nothing out of service. tell must not block for
// longer than the interval. The error is core.ErrInvalid, or ctx's cause.
func Monitor(ctx context.Context, c Check, tell func(s State, why error)) error {
	c, err := c.normal()
	if err != nil {
		return err
	}
	h := hysteresis{check: c}
	return h.monitor(ctx, 0, tell)
}

// monitor is Monitor from what is believed so far on, after a first pause.
func (h *hysteresis) monitor(ctx context.Context, first time.Duration, tell func(s State, why error)) error {
	c := h.check
	tick := time.NewTimer(first)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		tick.Reset(c.Interval) // before the probe, so that its length does not add up
		err := h.probe(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if s, changed := h.saw(err); changed {
			tell(s, err)
		}
	}
}

// hysteresis is what a check believes.
type hysteresis struct {
	check Check
	slots chan struct{} // nil: as many at once as there are
	state State         // "": nothing yet
	next  State         // what the last probes said
	inRow int
}

// probe looks once. To wait for its turn is nothing that the instance is to blame
// for.
func (h *hysteresis) probe(ctx context.Context) error {
	if h.slots != nil {
		select {
		case h.slots <- struct{}{}:
			defer func() { <-h.slots }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, h.check.Timeout)
	defer cancel()
	return h.check.Probe(ctx)
}

func (h *hysteresis) saw(err error) (s State, changed bool) {
	s = Passing
	switch {
	case errors.Is(err, ErrWarning):
		s = Warning
	case err != nil:
		s = Critical
	}
	if s != h.next {
		h.next, h.inRow = s, 0
	}
	h.inRow++
	needed := h.check.Rise
	if s == Critical {
		needed = h.check.Fall
	}
	if s == h.state || h.state != "" && h.inRow < needed {
		return h.state, false
	}
	h.state = s
	return s, true
}

// Monitor probes, as the function [Monitor] does, and has the instance registered
// in the state that it finds, until ctx or the registration ends. It returns why.
// An instance that drains, or is in maintenance, stays so.
func (g *Registration) Monitor(ctx context.Context, c Check) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(&g.ctx, func() { cancel(context.Cause(&g.ctx)) })()
	return Monitor(ctx, c, func(s State, why error) {
		within, cancel := context.WithTimeout(ctx, answering)
		defer cancel()
		err := g.amend(within, func(i Instance) (Instance, bool) {
			if i.State == Draining || i.State == Maintenance {
				return i, false
			}
			i.State = s
			return i, true
		})
		g.r.log.Info("an instance changes its state", "service", g.service, "id", g.id, "state", string(s), "probe", why)
		if err != nil { // the registrar goes on trying
			g.r.log.Debug("the state is not registered yet", "error", err)
		}
	})
}

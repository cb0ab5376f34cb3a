package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/conclavehq/conclave/internal/commit"
)

// A Pending is a transaction on its way. One goroutine at a time waits for it.
type Pending struct {
	ticket  commit.Ticket
	answers chan answer
	got     *answer
}

type answer struct {
	r   commit.Result
	err error
}

// Begin sends a transaction, for a caller who may leave before the answer comes.
// Somebody then calls Wait.
func (e *Engine) Begin(t commit.Txn) *Pending {
	p := &Pending{answers: make(chan answer, 1)}
	p.ticket = e.SubmitBuilt(t, p.answered)
	return p
}

func (p *Pending) answered(r commit.Result, err error) { p.answers <- answer{r, err} }

// Await waits until the answer is there, or until ctx ends. It reports whether
// Wait returns at once.
func (p *Pending) Await(ctx context.Context) bool {
	if p.got != nil {
		return true
	}
	caller, session, more := Ends(ctx)
	select {
	case a := <-p.answers:
		p.got = &a
		return true
	case <-caller:
	case <-session:
	case <-more:
	}
	_ = ctx.Err() // a joint context finds out here why it ended
	return false
}

// Wait waits for the answer. It returns early when ctx ends: with an error that
// is commit.ErrUnknown if the transaction was under way, else it was never sent.
func (p *Pending) Wait(ctx context.Context) (commit.Result, error) {
	switch {
	case p.Await(ctx):
		if err := p.got.err; err != nil && ctx.Err() != nil && errors.Is(err, commit.ErrUnknown) {
			return p.got.r, fmt.Errorf("%w: %w", commit.ErrUnknown, context.Cause(ctx))
		}
		return p.got.r, p.got.err
	case p.ticket.Withdraw():
		return commit.Result{}, context.Cause(ctx)
	default:
		return commit.Result{}, fmt.Errorf("%w: %w", commit.ErrUnknown, context.Cause(ctx))
	}
}

// Do sends one transaction and waits for its result, as Wait does.
func (e *Engine) Do(ctx context.Context, t commit.Txn) (commit.Result, error) {
	if ctx.Err() != nil {
		return commit.Result{}, context.Cause(ctx)
	}
	p := &Pending{answers: make(chan answer, 1)}
	p.ticket = e.RunBuilt(ctx, t, p.answered)
	return p.Wait(ctx)
}

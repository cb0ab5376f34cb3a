package waitqueue

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
)

// abandon gives up an acquisition that may have left something in etcd. The
// work goes on in the background; abandon waits a moment for it, so that the
// ticket is usually gone when the caller is told. It returns nil when the work
// is done, else a channel that is closed then.
func (a *acquisition) abandon(ctx context.Context) <-chan struct{} {
	if !a.uncertain && !a.entered || a.keepsPlace(ctx) {
		a.end()
		return nil
	}
	done := make(chan struct{})
	a.q.e.Go(func(ctx context.Context) {
		defer close(done)
		if t := a.withdraw(ctx); t != nil {
			t.giveUp(ctx)
		} else {
			a.end()
		}
	})
	t := time.NewTimer(abandonWait)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
		return done
	}
}

// end forgets the acquisition, and lets the next of the local line have its turn.
func (a *acquisition) end() {
	a.forget()
	if a.line != nil {
		a.line.advance()
	}
}

// forget ends the routing of events to a and its use of the names.
func (a *acquisition) forget() {
	for i := range a.parts {
		a.parts[i].n.forget(a, a.parts[i].ticket)
	}
	a.done()
}

// withdraw takes out of etcd whatever the acquisition put there, and makes sure
// that no late copy of its requests puts anything there again. If it turns out
// to own, it returns the tenure.
func (a *acquisition) withdraw(ctx context.Context) *tenure {
	for pause := 10 * time.Millisecond; a.uncertain || a.entered; pause = min(2*pause, time.Second) {
		if errors.Is(context.Cause(a.q.s.Context()), core.ErrSessionExpired) {
			return nil // the lease takes everything away
		}
		t, err := a.withdrawOnce(ctx)
		switch {
		case t != nil || ctx.Err() != nil:
			return t
		case err == nil:
			continue
		case !errors.Is(err, commit.ErrUnknown):
			// Definite: the lease is gone, or the user lost the right to write.
			a.q.e.Log().Debug("withdraw from the line", "error", err)
			return nil
		}
		if sleep(ctx, pause) != nil {
			return nil
		}
	}
	return nil
}

// withdrawOnce takes one step.
func (a *acquisition) withdrawOnce(ctx context.Context) (*tenure, error) {
	cancelling := !a.uncertain
	txn := a.voidTxn()
	if cancelling {
		txn = a.cancelTxn()
	}
	r, err := a.q.e.Do(ctx, txn)
	if err != nil {
		return nil, err
	}
	if a.req.OnePerLease && !a.answeredFor(r, cancelling) {
		return nil, nil
	}
	a.uncertain, a.entered = false, false
	if cancelling && r.Succeeded {
		return nil, nil
	}
	ticket, proof := kv(r, 0), kv(r, 1)
	t := a.found(ticket, proof)
	switch {
	case t != nil:
	case ticket != nil:
		a.standing(ticket) // it waits: cancel it in the next step
	case a.req.Mode == Set && !cancelling:
		a.entered = true // the tickets in the other names are not known to be gone
	}
	return t, nil
}

// answeredFor reads from the reply to a Void or a Cancel whether a is still this
// host's to give up. If not, nothing of it is left to do here.
func (a *acquisition) answeredFor(r commit.Result, cancelling bool) bool {
	if r.Succeeded {
		if !cancelling {
			a.adopted = r.Revision // the void record is its own from now on
		}
		return true
	}
	record := kv(r, 2)
	switch {
	case record == nil && a.adopted == 0, record != nil && record.ModRevision == a.adopted:
		return true // the ticket has changed
	case record != nil && string(record.Value) == a.ownVoid(): // by an earlier request
		a.adopted = record.ModRevision
		return true
	}
	a.uncertain, a.entered = false, false
	return false
}

// found returns the tenure that a has according to its ticket and proof, if any.
func (a *acquisition) found(ticket, proof *mvccpb.KeyValue) *tenure {
	record := recordOf(proof)
	mine := proof != nil && record.ID == a.id
	switch {
	case mine && record.Broken > 0:
		t := a.tenureAt(record.Broken)
		t.ticketed() // the names that are left may have theirs
		return t
	case ticket != nil && ticket.Version != waiting && a.req.Mode != Set:
		return a.tenureOf(ticket)
	case mine && ticket != nil:
		a.standing(ticket)
		t := a.tenureAt(proof.ModRevision)
		t.ticketed()
		return t
	case mine:
		return a.tenureAt(proof.ModRevision)
	}
	return nil
}

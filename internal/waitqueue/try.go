package waitqueue

import (
	"context"
	"errors"

	"github.com/conclavehq/conclave/internal/commit"
)

// tryOnce sends Try. With only, the caller does not go on to wait.
func (a *acquisition) tryOnce(ctx context.Context, only bool) (*tenure, error) {
	for n := 0; n < maxInspections; n++ {
		if a.req.Mode == Permits && (a.parts[0].n.sees().rev == 0 || !a.parts[0].n.sees().fits(a.req)) {
			if err := a.inspect(ctx); err != nil {
				return nil, err
			}
			if !a.parts[0].n.sees().fits(a.req) {
				return nil, a.heldByOthers(ctx)
			}
		}
		tell := only || a.req.Mode == Permits
		r, brief, err := a.sendTry(ctx, tell, n == 0)
		if err != nil {
			return nil, err
		}
		if r.Succeeded {
			a.arrived(r)
			return a.tenureAt(r.Revision), nil
		}
		if brief {
			a.fullTry = true
			n--
			continue
		}
		own := r.Responses
		if tell { // the owners come first
			own = own[len(a.parts):]
		}
		switch err := a.met(own); {
		case errors.Is(err, errMoved):
			n--
			continue
		case err != nil:
			return nil, err
		}
		if !tell { // the line tells
			return nil, &HeldError{Name: a.req.Names[0]}
		}
		again, err := a.refused(ctx, r)
		if !again {
			return nil, err
		}
	}
	return nil, &HeldError{Name: a.req.Names[0]}
}

// beginBriefly sends the first Try if it may be a brief one, and reports whether
// it did.
func (a *acquisition) beginBriefly(only bool) bool {
	if (only || !a.warm()) && a.triesBriefly() {
		a.first = a.q.e.Begin(a.tryTxn(only, true))
	}
	return a.first != nil
}

// sendTry sends Try, briefly if it may, or waits for the one under way.
func (a *acquisition) sendTry(ctx context.Context, tell, early bool) (r commit.Result, brief bool, err error) {
	if first := a.first; first != nil {
		a.first, brief = nil, true
		r, err = first.Wait(ctx)
	} else {
		if err := a.q.comeHome(ctx); err != nil {
			return r, false, err
		}
		brief = early && !a.fullTry && a.triesBriefly()
		r, err = a.q.e.Do(ctx, a.tryTxn(tell, brief))
	}
	if err != nil {
		a.failed(err)
	}
	return r, brief, err
}

// maxInspections bounds how often a try is repeated on a new view of a name
// whose limit or permits change all the time.
const maxInspections = 4

// refused reads a refused Try: who holds the name, or whether a limit that it
// did not know of was in the way, so that it may try again.
func (a *acquisition) refused(ctx context.Context, r commit.Result) (again bool, err error) {
	held := &HeldError{Name: a.req.Names[0]}
	if n := a.parts[0].n; a.bare() && len(kvs(r, 0)) == 0 {
		n.litter() // waiters, readers, or nothing that counts: ask again, exactly
		return true, held
	}
	limited := a.req.Mode == Permits
	for i := range a.parts {
		limited = limited || a.parts[i].view.stale() // it may be gone by now
		for _, kv := range kvs(r, i) {
			switch string(kv.Key) {
			case a.parts[i].n.limit():
				limited = true
			case a.parts[i].n.grant():
				held = &HeldError{Name: a.req.Names[i], Holder: recordOf(kv)}
			}
		}
	}
	if !limited {
		return false, held
	}
	a.parts[0].n.litter()
	before := a.parts[0].view
	if err := a.inspect(ctx); err != nil {
		return false, err
	}
	after := a.parts[0].n.sees()
	again = after.stale() || !after.busy || (a.req.Mode == Permits && after.fits(a.req) && after.rev != before.rev)
	return again, held
}

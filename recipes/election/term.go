package election

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/recipes/internal/service"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

const (
	// askHeir bounds the question whether the term is being transferred.
	askHeir = time.Second
	// tellHeir bounds the wait until the library has read of it.
	tellHeir = 2 * time.Second
	// proclaimFor bounds a proclamation.
	proclaimFor = 5 * time.Second
)

// Resign implements the method of the ElectionService.
func (i *instance) Resign(ctx context.Context, req *electionv1.ResignRequest) (*electionv1.ResignResponse, error) {
	l, err := i.leading(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := l.resign(ctx); err != nil {
		return nil, ownerStatus(l.at.Name, err)
	}
	return &electionv1.ResignResponse{}, nil
}

// Proclaim implements the method of the ElectionService.
func (i *instance) Proclaim(ctx context.Context, req *electionv1.ProclaimRequest) (*electionv1.ProclaimResponse, error) {
	l, err := i.leading(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := l.proclaim(ctx, req.GetValue()); err != nil {
		return nil, ownerStatus(l.at.Name, err)
	}
	return &electionv1.ProclaimResponse{}, nil
}

// A term is the library's, with the verb of an ownership.
type term struct{ *election.Term }

func (t term) Release() error { return t.Resign() }

// A leading is a caller with its term, as a request names it.
type leading struct {
	i     *instance
	e     *election.Election
	space state.Space
	at    service.PlaceKey
	token core.Token
}

// A termRequest is about the caller's own term.
type termRequest interface {
	GetNamespace() string
	GetName() string
	GetToken() int64
}

func (i *instance) leading(ctx context.Context, req termRequest) (*leading, error) {
	space, err := i.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, err
	}
	token := core.Token(req.GetToken())
	if token <= 0 {
		return nil, service.Invalidf("token", "%d is none; it is what Campaign returned", token)
	}
	s, err := recipe.Session(ctx, i.Env)
	if err != nil {
		return nil, err
	}
	return &leading{i: i, e: election.New(s, req.GetName()), space: space, token: token,
		at: service.PlaceKey{Lease: s.Lease(), Name: req.GetName()}}, nil
}

func (l *leading) resign(ctx context.Context) error {
	held, place := l.i.places.Take(l.at, l.token)
	var t *election.Term
	if held != nil {
		t = held.(term).Term
	}
	stands, heir := l.ask(ctx)
	t, err := l.term(ctx, t, place)
	if err != nil {
		return err
	}
	if heir {
		timer := time.NewTimer(tellHeir)
		defer timer.Stop()
		select {
		case <-t.Context().Done():
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	err = l.stillHere(t, (*election.Term).Resign)
	if stands && errors.Is(err, core.ErrRevoked) {
		return nil // the library calls a term lost from the moment at which its leader was told to go
	}
	return err
}

// term is the library's: held, as it was won here, or taken up.
func (l *leading) term(ctx context.Context, held *election.Term, place election.Place) (*election.Term, error) {
	switch {
	case held != nil:
		return held, nil
	case place.Token() != 0:
		return l.e.ResumeAt(place)
	}
	return service.Bounded(ctx, func(ctx context.Context) (*election.Term, error) { return l.e.Resume(ctx, l.token) })
}

// stillHere calls a verb of a term, which may have become a plain value meanwhile.
func (l *leading) stillHere(t *election.Term, verb func(*election.Term) error) error {
	err := verb(t)
	if !errors.Is(err, election.ErrDetached) {
		return err
	}
	place, err := t.Detach()
	if err != nil {
		return err
	}
	if t, err = l.e.ResumeAt(place); err != nil {
		return err
	}
	return verb(t)
}

// ask tells whether the term stands, and whether it is being transferred. The
// library hears of a transfer a moment after the caller may have, and of a term that
// it has just taken up a moment later; before, it resigns in favour of the first in
// line. A caller that resigns because it was told was told by this member, or else
// the transfer may come to nothing: there is no need to ask the others.
func (l *leading) ask(ctx context.Context) (stands, heir bool) {
	ctx, cancel := context.WithTimeout(ctx, askHeir)
	defer cancel()
	n, _, err := l.i.look(ctx, l.space, l.at.Name, false, clientv3.WithSerializable())
	if err != nil {
		return false, false // the resignation finds out what is wrong
	}
	holders := n.Holders()
	for k := range holders {
		if h := &holders[k]; h.Lease == int64(l.at.Lease) && h.Token == int64(l.token) {
			return true, h.Notice != nil && h.Notice.To != nil
		}
	}
	return false, false
}

func (l *leading) proclaim(ctx context.Context, value string) error {
	held, place := l.i.places.Get(l.at, l.token)
	var t *election.Term
	if held != nil {
		t = held.(term).Term
	}
	t, err := l.term(ctx, t, place)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, proclaimFor)
	defer cancel()
	err = l.stillHere(t, func(t *election.Term) error { return t.Proclaim(ctx, value) })
	if held == nil { // nothing else looks after it
		_, _ = t.Detach()
	}
	return err
}

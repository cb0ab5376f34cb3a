package election

import (
	"context"
	"time"

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

// term is the library's: without a read, if it was won here.
func (l *leading) term(ctx context.Context) (*election.Term, error) {
	if _, place := l.i.places.Take(l.at, l.token); place.Token() != 0 {
		return l.e.ResumeAt(place)
	}
	return service.Bounded(ctx, func(ctx context.Context) (*election.Term, error) { return l.e.Resume(ctx, l.token) })
}

func (l *leading) resign(ctx context.Context) error {
	heir := l.hasHeir(ctx)
	t, err := l.term(ctx)
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
	return t.Resign()
}

// hasHeir tells whether the term is being transferred. A term that is nobody's
// here hears of it a moment after it was taken up, and is resigned in favour of
// the first in line before.
func (l *leading) hasHeir(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askHeir)
	defer cancel()
	n, _, err := l.i.look(ctx, l.space, l.at.Name, false)
	if err != nil {
		return false // the resignation finds out what is wrong
	}
	holders := n.Holders()
	for k := range holders {
		if h := &holders[k]; h.Lease == int64(l.at.Lease) {
			return h.Notice != nil && h.Notice.To != nil
		}
	}
	return false
}

func (l *leading) proclaim(ctx context.Context, value string) error {
	t, err := l.term(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, proclaimFor)
	defer cancel()
	err = t.Proclaim(ctx, value)
	if place, err := t.Detach(); err == nil {
		l.i.places.Keep(l.at, place)
	}
	return err
}

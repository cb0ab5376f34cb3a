package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
	recipebarrier "github.com/conclavehq/conclave/recipes/barrier"
)

// barriers is the barrier API of a target.
type barriers = service[barrierv1.BarrierServiceClient]

// withBarriers runs work with the barrier API of the target.
func (a *app) withBarriers(ctx context.Context, atMost time.Duration, work func(ctx context.Context, t target, b barriers) error) error {
	r := standardRecipe[barrierv1.BarrierServiceClient]{recipebarrier.Recipe{}, nil, barrierv1.NewBarrierServiceClient}
	return withService(ctx, a, r, atMost, work)
}

// withBarrier is withBarriers for a command about one name.
func (a *app) withBarrier(ctx context.Context, name string, atMost time.Duration, work func(ctx context.Context, t target, b barriers) error) error {
	if err := keyspace.CheckName("name", name); err != nil {
		return usage("invalid_name", "", "%s", err)
	}
	return a.withBarriers(ctx, atMost, work)
}

// allBarriers returns every barrier whose name begins with prefix.
func allBarriers(ctx context.Context, b barriers, namespace, prefix string) ([]*barrierv1.State, error) {
	var all []*barrierv1.State
	req := &barrierv1.ListRequest{Namespace: namespace, Prefix: prefix, PageSize: 1000}
	for {
		resp, err := ask(ctx, b, barrierv1.BarrierServiceClient.List, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetBarriers()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all, nil
		}
	}
}

// A holding says how to hold a barrier.
type holding struct {
	purpose            string
	breaks, persistent bool
}

func (s *etcdSession) hold(ctx context.Context, name string, f holding) (*owned, error) {
	opts := []barrier.Option{barrier.WithPurpose(f.purpose)}
	if f.breaks {
		opts = append(opts, barrier.WithBreakOnLoss())
	}
	if f.persistent {
		opts = append(opts, barrier.WithPersistent())
	}
	h, err := barrier.New(s.Session, name, opts...).Hold(ctx)
	if err != nil {
		return nil, err
	}
	return &owned{context: h.Context(), token: h.Token(), release: h.Release}, nil
}

func (s *hostSession) hold(ctx context.Context, name string, f holding) (*owned, error) {
	h, err := s.Hold(ctx, &barrierv1.HoldRequest{Name: name, Purpose: f.purpose, BreakOnLoss: f.breaks, Persistent: f.persistent})
	if err != nil {
		return nil, err
	}
	return ownedAtHost(h), nil
}

// An entering says how to enter a phase.
type entering struct {
	purpose string
	parties int
	breaks  bool
	waitFlags
}

func (s *etcdSession) enter(ctx context.Context, name string, f entering) (*owned, error) {
	ctx, cancel := f.waiting(ctx, 0)
	defer cancel()
	opts := []barrier.Option{barrier.WithPurpose(f.purpose)}
	if f.breaks {
		opts = append(opts, barrier.WithBreakOnLoss())
	}
	e, err := barrier.NewDouble(s.Session, name, f.parties, opts...).Enter(ctx)
	if err != nil {
		return nil, f.notEntered(ctx, name, err)
	}
	return &owned{context: e.Context(), token: e.Token(), leave: e.Leave, env: generation(e.Generation()),
		release: func() error { return nil }}, nil // what was not left ends with the session
}

func (s *hostSession) enter(ctx context.Context, name string, f entering) (*owned, error) {
	req := &barrierv1.EnterRequest{Name: name, Purpose: f.purpose, Parties: int32(f.parties), BreakOnLoss: f.breaks} //nolint:gosec // at most 10,000
	if f.wait.set {
		req.Wait = durationpb.New(f.wait.value)
	}
	ctx, cancel := f.waiting(ctx, answering)
	defer cancel()
	e, err := s.Enter(ctx, req)
	if err != nil {
		return nil, f.notEntered(ctx, name, err)
	}
	o := ownedAtHost(e.Held)
	o.leave, o.env = e.Leave, generation(e.Generation())
	return o, nil
}

// notEntered says that --wait has elapsed, if that is why. A host says it itself, and
// how many were there.
func (f entering) notEntered(waiting context.Context, name string, err error) error {
	if errors.Is(context.Cause(waiting), errWaited) {
		return fmt.Errorf("barrier %q: not entered within --wait %s: %w", name, short(f.wait.value), waitedError("others are missing"))
	}
	return err
}

func (s *etcdSession) releaseHold(ctx context.Context, name string, token int64) error {
	h, err := barrier.New(s.Session, name).Resume(ctx, core.Token(token))
	if err != nil {
		return err
	}
	return h.Release()
}

func (s *hostSession) releaseHold(ctx context.Context, name string, token int64) error {
	return s.ReleaseHold(ctx, name, token)
}

func generation(n int64) []string { return []string{"CONCLAVE_GENERATION=" + strconv.FormatInt(n, 10)} }

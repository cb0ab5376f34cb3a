package service

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/watch"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// maxMessage is how many names one message of a watch has at most: of a size that
// every client takes.
const maxMessage = 200

// A WatchRequest selects names to follow: one, those that begin with a prefix, or
// all of the namespace.
type WatchRequest interface {
	GetNamespace() string
	GetName() string
	GetPrefix() string
}

// A Change is one message of a watch.
type Change struct {
	Revision int64
	Initial  bool // it belongs to the state with which the watch begins
	More     bool // the same state or change goes on in the next message
	Names    []*state.Name
}

// Watch tells the present state of names, and then every change of it, until ctx
// or the instance ends, or tell fails. At the beginning names that nobody uses are
// left out; later an Idle one says that nobody uses it any more.
func (s *Service) Watch(ctx context.Context, req WatchRequest, tell func(Change) error) error {
	space, prefix, err := s.watched(ctx, req)
	if err != nil {
		return err
	}
	ctx, done := s.Until(ctx)
	defer done()
	names := state.NewNames(space)
	for b, err := range watch.Observe(ctx, s.Env.Client, prefix, watch.ObserveOptions{Streams: s.streams, Logger: s.Env.Log}) {
		if err != nil {
			return watchEnded(err)
		}
		if err := inMessages(b, changed(names, b), tell); err != nil {
			return err
		}
	}
	return recipe.Status(context.Cause(ctx))
}

// Until returns a context that ends with ctx, and with the instance.
func (s *Service) Until(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// watched returns the beginning of the keys that a request is about.
func (s *Service) watched(ctx context.Context, req WatchRequest) (space state.Space, prefix string, err error) {
	if req.GetName() == "" {
		if space, err = s.Space(ctx, req.GetNamespace()); err != nil {
			return space, "", err
		}
		return space, space.Beginning(req.GetPrefix()), checkPrefix(req.GetPrefix())
	}
	if req.GetPrefix() != "" {
		return space, "", Invalidf("prefix", "is given together with name")
	}
	if space, err = s.Named(ctx, req.GetNamespace(), req.GetName()); err != nil {
		return space, "", err
	}
	return space, space.Name(req.GetName()), nil
}

// watchEnded is the error of a watch that etcd does not let go on.
func watchEnded(err error) error {
	if lost, ok := errors.AsType[*watch.LostError](err); ok && lost.Err != nil {
		err = lost.Err
	}
	return recipe.Status(err)
}

// changed takes a batch in and returns the names that are not what they were, in
// order.
func changed(names *state.Names, b watch.Batch) []*state.Name {
	touched := make(map[string]*state.Name)
	for _, ev := range b.Events {
		if n := names.Apply(ev); n != nil {
			touched[n.Segment] = n
		}
	}
	all := make([]*state.Name, 0, len(touched))
	for _, n := range touched {
		if n.Text() != "" && !(n.Idle() && b.Snapshot) {
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b *state.Name) int { return strings.Compare(a.Text(), b.Text()) })
	return all
}

// inMessages tells a batch in messages.
func inMessages(b watch.Batch, names []*state.Name, tell func(Change) error) error {
	if len(names) == 0 && !b.Snapshot {
		return nil
	}
	for {
		n := min(maxMessage, len(names))
		if err := tell(Change{Revision: b.Revision, Initial: b.Snapshot, More: n < len(names), Names: names[:n]}); err != nil {
			return err
		}
		if names = names[n:]; len(names) == 0 {
			return nil
		}
	}
}

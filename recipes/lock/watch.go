package lock

import (
	"context"
	"errors"
	"slices"
	"strings"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/watch"
	"github.com/conclavehq/conclave/recipes/lock/internal/state"
)

// maxMessage is how many locks one message of a watch has at most.
const maxMessage = 200

// Watch implements the method of the LockService.
func (i *instance) Watch(req *lockv1.WatchRequest, stream lockv1.LockService_WatchServer) error {
	s, prefix, err := i.watched(stream.Context(), req)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(i.ctx, func() { cancel(context.Cause(i.ctx)) })()
	names := state.NewNames(s)
	for b, err := range watch.Observe(ctx, i.env.Client, prefix, watch.ObserveOptions{Streams: i.streams, Logger: i.env.Log}) {
		if err != nil {
			return watchEnded(err)
		}
		if err := tell(stream, b, changed(names, b)); err != nil {
			return err
		}
	}
	return recipe.Status(context.Cause(ctx))
}

// watched returns the beginning of the keys that a request is about.
func (i *instance) watched(ctx context.Context, req *lockv1.WatchRequest) (s state.Space, prefix string, err error) {
	if req.GetName() == "" {
		if s, err = i.space(ctx, req.GetNamespace()); err != nil {
			return s, "", err
		}
		return s, s.Beginning(req.GetPrefix()), checkPrefix(req.GetPrefix())
	}
	if req.GetPrefix() != "" {
		return s, "", invalidf("prefix", "is given together with name")
	}
	if s, err = i.named(ctx, req.GetNamespace(), req.GetName()); err != nil {
		return s, "", err
	}
	return s, s.Name(req.GetName()), nil
}

// watchEnded is the error of a watch that etcd does not let go on.
func watchEnded(err error) error {
	if lost, ok := errors.AsType[*watch.LostError](err); ok && lost.Err != nil {
		err = lost.Err
	}
	return recipe.Status(err)
}

// changed takes a batch in and returns the names that are not what they were, as
// they are now. At the beginning those that nobody uses are left out.
func changed(names *state.Names, b watch.Batch) []*lockv1.Lock {
	touched := make(map[string]*state.Name)
	for _, ev := range b.Events {
		if n := names.Apply(ev); n != nil {
			touched[n.Segment] = n
		}
	}
	locks := make([]*lockv1.Lock, 0, len(touched))
	for _, n := range touched {
		switch {
		case n.Text() == "":
		case !n.Idle():
			locks = append(locks, lockOf(n))
		case !b.Snapshot:
			locks = append(locks, &lockv1.Lock{Name: n.Text()})
		}
	}
	slices.SortFunc(locks, func(a, b *lockv1.Lock) int { return strings.Compare(a.GetName(), b.GetName()) })
	return locks
}

// tell sends a batch in messages of a size that every client takes.
func tell(stream lockv1.LockService_WatchServer, b watch.Batch, locks []*lockv1.Lock) error {
	if len(locks) == 0 && !b.Snapshot {
		return nil
	}
	for {
		n := min(maxMessage, len(locks))
		msg := &lockv1.WatchResponse{Revision: b.Revision, Initial: b.Snapshot, More: n < len(locks), Locks: locks[:n]}
		if err := stream.Send(msg); err != nil {
			return err
		}
		if locks = locks[n:]; len(locks) == 0 {
			return nil
		}
	}
}

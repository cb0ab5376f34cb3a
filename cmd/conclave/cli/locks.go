package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
	"github.com/conclavehq/conclave/core/recipe"
	recipelock "github.com/conclavehq/conclave/recipes/lock"
)

// locks is the part of the lock API that looks at locks and acts on what others hold.
type locks interface {
	List(ctx context.Context, req *lockv1.ListRequest) (*lockv1.ListResponse, error)
	Why(ctx context.Context, req *lockv1.WhyRequest) (*lockv1.WhyResponse, error)
	History(ctx context.Context, req *lockv1.HistoryRequest) (*lockv1.HistoryResponse, error)
	ForceRelease(ctx context.Context, req *lockv1.ForceReleaseRequest) (*lockv1.ForceReleaseResponse, error)
}

// withLocks runs work with the lock API of the target: a host's, or the recipe
// itself in this process, straight on etcd.
func (a *app) withLocks(ctx context.Context, work func(ctx context.Context, t target, l locks) error) error {
	t, err := a.target()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx, answering)
	defer cancel()
	if t.direct() {
		return a.withLocksAtEtcd(ctx, t, work)
	}
	c, err := a.host(t)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return explain(ctx, t, work(ctx, t, hostLocks{c}))
}

// hostLocks asks hosts.
type hostLocks struct{ c *remote.Client }

func (l hostLocks) List(ctx context.Context, req *lockv1.ListRequest) (resp *lockv1.ListResponse, err error) {
	err = l.c.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		resp, err = lockv1.NewLockServiceClient(cc).List(ctx, req)
		return err
	})
	return resp, err
}

func (l hostLocks) Why(ctx context.Context, req *lockv1.WhyRequest) (resp *lockv1.WhyResponse, err error) {
	err = l.c.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		resp, err = lockv1.NewLockServiceClient(cc).Why(ctx, req)
		return err
	})
	return resp, err
}

func (l hostLocks) History(ctx context.Context, req *lockv1.HistoryRequest) (resp *lockv1.HistoryResponse, err error) {
	err = l.c.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		resp, err = lockv1.NewLockServiceClient(cc).History(ctx, req)
		return err
	})
	return resp, err
}

// ForceRelease is not repeated: the second one would take the name from the next owner.
func (l hostLocks) ForceRelease(ctx context.Context, req *lockv1.ForceReleaseRequest) (resp *lockv1.ForceReleaseResponse, err error) {
	err = l.c.Once(ctx, func(cc grpc.ClientConnInterface) (err error) {
		resp, err = lockv1.NewLockServiceClient(cc).ForceRelease(ctx, req)
		return err
	})
	return resp, err
}

// withLocksAtEtcd opens the lock recipe in this process. It keeps no history: that
// is for hosts, which are always there.
func (a *app) withLocksAtEtcd(ctx context.Context, t target, work func(ctx context.Context, t target, l locks) error) error {
	c, err := a.dial(ctx, t)
	if err != nil {
		return explain(ctx, t, err)
	}
	defer func() { _ = c.Close() }()
	env := recipe.NewEnv(recipelock.Recipe{}.Info().Name, c, &lockv1.Config{HistoryOff: true}, slog.New(slog.DiscardHandler))
	defer env.Close()
	var service captured
	i, err := recipelock.Recipe{}.Open(ctx, env, &service)
	if err != nil {
		return err
	}
	defer func() {
		// What it has in etcd ends with its lease, if not now.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaving)
		defer cancel()
		_ = i.Close(closing)
	}()
	return explain(ctx, t, work(ctx, t, &etcdLocks{service.locks}))
}

// captured is where a recipe in this process registers its service.
type captured struct{ locks }

// RegisterService keeps the implementation.
func (c *captured) RegisterService(_ *grpc.ServiceDesc, impl any) {
	if l, ok := impl.(locks); ok {
		c.locks = l
	}
}

// etcdLocks is the recipe in this process.
type etcdLocks struct{ locks }

// ForceRelease waits for the recipe's own session, which it acts under and has not
// opened yet: until then nothing is done.
func (l *etcdLocks) ForceRelease(ctx context.Context, req *lockv1.ForceReleaseRequest) (*lockv1.ForceReleaseResponse, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := l.locks.ForceRelease(ctx, req)
		if err == nil || describe(err).Exit != ExitUnavailable {
			return resp, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// operator is who forces a release, as the holder reads it. Where a host knows who
// calls it says so itself.
func (a *app) operator(t target) string {
	if with, err := a.access(t); err == nil && (with.token != "" || with.cert != "") {
		return ""
	}
	who := ownerName()
	if u, err := user.Current(); err == nil && u.Username != "" {
		who = fmt.Sprintf("%.100s on %.100s", u.Username, who)
	}
	return who
}

// allLocks returns every lock whose name begins with prefix.
func allLocks(ctx context.Context, l locks, namespace, prefix string) ([]*lockv1.Lock, error) {
	var all []*lockv1.Lock
	req := &lockv1.ListRequest{Namespace: namespace, Prefix: prefix, PageSize: 1000}
	for {
		resp, err := l.List(ctx, req)
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetLocks()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all, nil
		}
	}
}

func nobodyHolds(name string) *Error {
	return &Error{Exit: ExitNotFound, Code: codeName(codes.NotFound), Reason: "not_found", cause: errors.New("not held"),
		Message: fmt.Sprintf("lock %q: nobody holds it", name), Hint: "see who waits with: conclave lock why " + quoted(name)}
}

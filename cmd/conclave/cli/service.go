package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclavehq/conclave/core/recipe"
)

// Of a recipe in this process: how many bytes are on their way, and how long an
// answer may be.
const (
	onTheWay = 1 << 20
	maxReply = 16 << 20
)

// A caller makes calls: at hosts, or of a recipe in this process.
type caller interface {
	// Do makes one call that may be repeated.
	Do(ctx context.Context, call func(cc grpc.ClientConnInterface) error) error
	// Once makes one call that must not be repeated.
	Once(ctx context.Context, call func(cc grpc.ClientConnInterface) error) error
	// Wait makes one call that waits, and may be repeated with what is left.
	Wait(ctx context.Context, wait *durationpb.Duration, call func(cc grpc.ClientConnInterface, left *durationpb.Duration) error) error
	// Reach returns nil if there is somebody to call.
	Reach(ctx context.Context) error
}

// A service is a recipe's API at a target. C is its client as it was generated.
type service[C any] struct {
	caller
	client func(cc grpc.ClientConnInterface) C
}

// A method is one of C's, as in lockv1.LockServiceClient.List.
type method[C, Req, Resp any] func(c C, ctx context.Context, req Req, opts ...grpc.CallOption) (Resp, error)

// ask makes one call that may be repeated.
func ask[C, Req, Resp any](ctx context.Context, s service[C], m method[C, Req, Resp], req Req) (resp Resp, err error) {
	err = s.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		resp, err = m(s.client(cc), ctx, req)
		return err
	})
	return resp, err
}

// act makes one call that must not be repeated: the second one would be about
// somebody else.
func act[C, Req, Resp any](ctx context.Context, s service[C], m method[C, Req, Resp], req Req) (resp Resp, err error) {
	err = s.Once(ctx, func(cc grpc.ClientConnInterface) (err error) {
		resp, err = m(s.client(cc), ctx, req)
		return err
	})
	return resp, err
}

// A standardRecipe is a recipe that this program has, as commands use it.
type standardRecipe[C any] struct {
	recipe recipe.Recipe
	config proto.Message // for its use in this process
	client func(cc grpc.ClientConnInterface) C
}

// withService runs work with the API of a recipe: a host's, or the recipe itself in
// this process, straight on etcd. The ctx that work gets ends after --timeout, else
// after atMost, unless that is zero.
func withService[C any](ctx context.Context, a *app, r standardRecipe[C], atMost time.Duration,
	work func(ctx context.Context, t target, s service[C]) error,
) error {
	t, err := a.target()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx, atMost)
	defer cancel()
	if t.direct() {
		err := a.inProcess(ctx, t, r.recipe, r.config, func(c caller) error { return work(ctx, t, service[C]{c, r.client}) })
		return explain(ctx, t, err)
	}
	c, err := a.host(t)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return explain(ctx, t, work(ctx, t, service[C]{c, r.client}))
}

// inProcess opens a recipe in this process for as long as work runs.
func (a *app) inProcess(ctx context.Context, t target, r recipe.Recipe, config proto.Message, work func(c caller) error) error {
	c, err := a.dial(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	env := recipe.NewEnv(r.Info().Name, c, config, slog.New(slog.DiscardHandler))
	defer env.Close()
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	i, err := r.Open(ctx, env, server)
	if err != nil {
		return err
	}
	defer func() {
		// What it has in etcd ends with its lease, if not now.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaving)
		defer cancel()
		_ = i.Close(closing)
	}()
	listener, served := bufconn.Listen(onTheWay), make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // it says that it was stopped
	}()
	defer func() {
		server.Stop()
		<-served
	}()
	cc, err := grpc.NewClient("passthrough:///"+r.Info().Name,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		return err
	}
	defer func() { _ = cc.Close() }()
	return work(local{cc})
}

// local calls a recipe in this process.
type local struct{ cc grpc.ClientConnInterface }

func (l local) Do(_ context.Context, call func(cc grpc.ClientConnInterface) error) error {
	return call(l.cc)
}

func (l local) Wait(_ context.Context, wait *durationpb.Duration, call func(cc grpc.ClientConnInterface, left *durationpb.Duration) error) error {
	return call(l.cc, wait)
}

func (l local) Reach(context.Context) error { return nil }

// Once waits for the recipe's own session, which it acts under and has not opened
// yet: until then nothing is done.
func (l local) Once(ctx context.Context, call func(cc grpc.ClientConnInterface) error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := call(l.cc)
		if err == nil || describe(err).Exit != ExitUnavailable {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// operator is who acts on what others own, as those read it. Where a host knows who
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

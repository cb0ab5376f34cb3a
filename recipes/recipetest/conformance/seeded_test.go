package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
)

// impatience is how long a check waits for what a mistake keeps from happening.
const impatience = 5 * time.Second

// A mistake is a recipe with which one check has to find fault.
type mistake struct {
	check, name string
	subject     Subject
	detail      string // a part of what the check says
}

// TestSeededMistakes gives the checks recipes that break what they check.
func TestSeededMistakes(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	var all []mistake
	for _, some := range [][]mistake{mistakesOfDescription(), mistakesOfCalls(), mistakesOfCarriers(), mistakesOfOwnership(release), mistakesOfEnds(release)} {
		all = append(all, some...)
	}
	seen := map[string]bool{}
	for _, m := range all {
		seen[m.check] = true
		t.Run(m.check+"/"+m.name, func(t *testing.T) {
			r := runOne(t, m.subject, m.check)
			if r.Outcome != Failed || !strings.Contains(r.Detail, m.detail) {
				t.Errorf("%s: %q, want it to fail with %q", r.Outcome, r.Detail, m.detail)
			}
		})
	}
	for _, c := range Checks() {
		if !seen[c.Name] && len(c.only) == 0 {
			t.Errorf("no mistake shows that the check %q can fail", c.Name)
		}
	}
}

// runOne runs one check on a subject, with the scenario of the lock recipe.
func runOne(t *testing.T, subject Subject, check string) Result {
	t.Helper()
	s, err := New(t.Context(), subject, Config{Scenarios: []Scenario{scenarioOfLock()}, Patience: impatience})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Logf("close: %v", err) // what does not close is the mistake of some
		}
	}()
	for _, c := range Checks() {
		if c.Name == check {
			return s.Run(t.Context(), c)
		}
	}
	t.Fatalf("no check %q", check)
	return Result{}
}

func mistakesOfDescription() []mistake {
	var looks atomic.Int64
	info := func(change func(i *recipe.Info)) Subject { return InProcessSubject(sown{info: change}) }
	return []mistake{
		{"info", "another version at every look", info(func(i *recipe.Info) { i.Version = fmt.Sprintf("1.0.%d", looks.Add(1)) }), "a second look"},
		{"info", "no version", info(func(i *recipe.Info) { i.Version = "v1" }), "version: "},
		{"info", "two lines", info(func(i *recipe.Info) { i.Summary = "a\nb" }), "summary: "},
		{"info", "a name of its own kind", info(func(i *recipe.Info) { i.Name = "A Lock" }), "name: "},
		{"config", "any configuration", info(func(i *recipe.Info) { i.Config = &structpb.Struct{} }), "no_such_field"},
		{"descriptors", "no service", InProcessSubject(silent{}), "no service"},
		{"descriptors", "no options", InProcessSubject(bare{}), "summary: is empty, permission: is not given"},
	}
}

func mistakesOfCalls() []mistake {
	call := func(method string, err error) Subject {
		return InProcessSubject(on(method, func(sownCall) (any, error) { return nil, err }))
	}
	return []mistake{
		{"errors", "a bare error", call("List", errors.New("the database is on fire")), "UNKNOWN"},
		{"errors", "no reason", call("Release", status.Error(codes.NotFound, "no such thing")), "no reason"},
		{"errors", "not implemented", call("History", status.Error(codes.Unimplemented, "method History not implemented")), "not implemented"},
		{"errors", "a panic", InProcessSubject(onAcquire(func(c sownCall, req *lockv1.AcquireRequest) (any, error) {
			if req.GetPermits() < 0 {
				panic("a mistake")
			}
			return c.handle(c)
		})), "INTERNAL"},
		{"retry", "it begins anew at every call", InProcessSubject(onAcquire(func(c sownCall, _ *lockv1.AcquireRequest) (any, error) {
			if err := wipe(c, c.env); err != nil {
				return nil, err
			}
			return c.handle(c)
		})), "before that"},
		{"retry", "it loses something at every call", InProcessSubject(onAcquire(func(c sownCall, req *lockv1.AcquireRequest) (any, error) {
			who, _ := recipe.CallerFrom(c)
			key, err := c.env.Key("default", req.GetName())
			if err != nil {
				return nil, err
			}
			if _, err := c.env.Client.Delete(c, key+"mark"); err != nil {
				return nil, err
			}
			if _, err := c.env.Client.Put(c, key+"mark", "", clientv3.WithLease(who.Lease)); err != nil {
				return nil, err
			}
			return c.handle(c)
		})), "has gone from the session's lease"},
		{"retry", "another answer at every call", InProcessSubject(onAcquire(func(c sownCall, _ *lockv1.AcquireRequest) (any, error) {
			answer, err := c.handle(c)
			if a, ok := answer.(*lockv1.AcquireResponse); ok && err == nil {
				a.Token += time.Now().UnixNano()
			}
			return answer, err
		})), "before that"},
		{"side-by-side", "knowledge of its own", InProcessSubject(sown{call: remembering()}), "at the other host"},
	}
}

// remembering answers Why from the memory of the instance.
func remembering() func(c sownCall) (any, error) {
	var first atomic.Pointer[recipe.Env]
	return func(c sownCall) (any, error) {
		first.CompareAndSwap(nil, &c.env)
		if c.method == "Why" && first.Load().Log != c.env.Log {
			return &lockv1.WhyResponse{}, nil
		}
		return c.handle(c)
	}
}

// carrying is a subject whose carrier does something to the environment.
func carrying(change func(env *recipe.Env, s *Suite)) Subject {
	subject := InProcessSubject(sown{})
	run := subject.run
	subject.run = func(ctx context.Context, s *Suite, with probing) (runner, error) {
		if open := with.open; open != nil {
			with.open = func(ctx context.Context, env recipe.Env) {
				change(&env, s)
				open(ctx, env)
			}
		}
		return run(ctx, s, with)
	}
	return subject
}

func mistakesOfCarriers() []mistake {
	return []mistake{
		{"log", "silence", carrying(func(env *recipe.Env, _ *Suite) { env.Log = slog.New(slog.DiscardHandler) }), "does not reach the host"},
		{"log", "a level for all", carrying(func(env *recipe.Env, _ *Suite) { env.Log = slog.New(flat{env.Log.Handler()}) }), "reaches the host at INFO"},
		{"guard", "no guard", carrying(func(env *recipe.Env, s *Suite) { env.Client = s.etcd.Client() }), "not with permission denied"},
		{"keys", "a key of another", InProcessSubject(sown{open: func(env recipe.Env) error {
			_, _ = env.Client.Put(context.Background(), "/conclave/default/queue/x", "")
			return nil
		}}), "the guard refused put"},
		{"keys", "a way around the guard", around(), "/elsewhere"},
	}
}

// flat logs everything at one level.
type flat struct{ slog.Handler }

// Handle implements slog.Handler.
func (f flat) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelInfo
	return f.Handler.Handle(ctx, r)
}

// around is a recipe that has found another way to etcd.
func around() Subject {
	subject := InProcessSubject(sown{})
	run := subject.run
	subject.run = func(ctx context.Context, s *Suite, with probing) (runner, error) {
		if _, err := s.etcd.Client().Put(ctx, "/elsewhere", ""); err != nil {
			return nil, err
		}
		return run(ctx, s, with)
	}
	return subject
}

func mistakesOfOwnership(release <-chan struct{}) []mistake {
	deaf := InProcessSubject(onAcquire(func(c sownCall, _ *lockv1.AcquireRequest) (any, error) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(c))
		defer cancel()
		go func() {
			select {
			case <-release:
				cancel()
			case <-ctx.Done():
			}
		}()
		return c.handle(ctx)
	}))
	wiping := InProcessSubject(sown{open: func(env recipe.Env) error { return wipe(context.Background(), env) }})
	return []mistake{
		{"deadline", "a deaf handler", deaf, "its handler does not end"},
		{"cancel", "a deaf handler", deaf, "its handler does not end"},
		{"cancel", "a place that stays", InProcessSubject(onAcquire(staying)), "somebody else waits in vain"},
		{"ownership", "it begins anew", wiping, "attached to the session's lease"},
		{"drain", "it clears up", InProcessSubject(sown{close: func(ctx context.Context, env recipe.Env, i recipe.Instance) error {
			return errors.Join(i.Close(ctx), wipe(ctx, env))
		}}), "after the stop"},
		{"drain", "another error", InProcessSubject(onAcquire(func(c sownCall, _ *lockv1.AcquireRequest) (any, error) {
			answer, err := c.handle(c)
			if err != nil {
				return nil, recipe.Errorf(codes.Aborted, "locked", "held by another")
			}
			return answer, nil
		})), "UNAVAILABLE"},
	}
}

// staying goes on to wait for a caller that has given up.
func staying(c sownCall, _ *lockv1.AcquireRequest) (any, error) {
	type result struct {
		answer any
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := c.handle(context.WithoutCancel(c))
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-c.Done():
		return nil, recipe.Status(c.Err())
	}
}

func mistakesOfEnds(release <-chan struct{}) []mistake {
	// The second open fails, of whatever host.
	once := func() Subject {
		var opened atomic.Int64
		return InProcessSubject(sown{open: func(recipe.Env) error {
			if opened.Add(1) > 1 {
				return errors.New("the port is in use")
			}
			return nil
		}})
	}
	var closed atomic.Int64
	return []mistake{
		{"restart", "once only", once(), "the port is in use"},
		{"reopen", "once only", once(), "the second open"},
		{"close", "a second close that fails", InProcessSubject(sown{close: func(ctx context.Context, _ recipe.Env, i recipe.Instance) error {
			if closed.Add(1) > 1 {
				return errors.New("closed twice")
			}
			return i.Close(ctx)
		}}), "closed twice"},
		{"close", "a close that hangs", InProcessSubject(sown{close: func(ctx context.Context, _ recipe.Env, i recipe.Instance) error {
			<-release
			return i.Close(ctx)
		}}), "does not return"},
		{"goroutines", "one that stays", InProcessSubject(sown{open: func(recipe.Env) error {
			go func() { <-release }()
			return nil
		}}), "mistakesOfEnds"},
	}
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/discovery"
)

func asStart(err error) (*supervise.StartError, bool) {
	return errors.AsType[*supervise.StartError](err)
}

// enrol registers, within --timeout, or until a signal says that nobody wants it
// any more.
func (r *registering) enrol(ctx context.Context) (e enrolment, told syscall.Signal, err error) {
	ctx, cancel := r.bounded(ctx, answering)
	defer cancel()
	ctx, interrupt := context.WithCancel(ctx)
	defer interrupt()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if r.target.direct() {
			e, err = r.enrolAtEtcd(ctx)
		} else {
			e, err = r.enrolAtHost(ctx)
		}
	}()
	for {
		select {
		case <-done:
			return e, told, explain(ctx, r.target, err)
		case sig := <-r.signals:
			if s, ok := ends(sig); ok {
				told = s
				interrupt()
			}
		}
	}
}

// etcdEnrolment is the library's.
type etcdEnrolment struct {
	*app
	s    *core.Session
	g    *discovery.Registration
	i    discovery.Instance
	last sync.Mutex
}

func (r *registering) enrolAtEtcd(ctx context.Context) (enrolment, error) {
	c, err := r.dial(ctx, r.target)
	if err != nil {
		return nil, err
	}
	s, err := core.NewSession(ctx, c, core.WithTTL(r.ttl), core.WithNamespace(r.namespace(r.target)), core.WithOwner(ownerName()))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	g, err := discovery.NewRegistrar(s).Register(ctx, r.instance)
	if err != nil {
		_ = s.Close() // it owns nothing
		return nil, errors.Join(err, c.Close())
	}
	return &etcdEnrolment{app: r.app, s: s, g: g, i: r.instance}, nil
}

func (e *etcdEnrolment) token() core.Token     { return e.g.Token() }
func (e *etcdEnrolment) session() string       { return strconv.FormatInt(int64(e.s.Lease()), 16) }
func (e *etcdEnrolment) over() context.Context { return e.g.Context() }

func (e *etcdEnrolment) state(s discovery.State) {
	e.last.Lock()
	defer e.last.Unlock()
	if e.i.State == discovery.Draining {
		return
	}
	e.i.State = s
	ctx, cancel := context.WithTimeout(context.Background(), leaving)
	defer cancel()
	_ = e.g.Update(ctx, e.i) // the registrar goes on trying
}

func (e *etcdEnrolment) leave() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.g.Deregister()
		_ = e.s.Close()
		_ = e.s.Client().Close()
	}()
	// What could not be told to etcd ends with the lease.
	giveUp := time.NewTimer(releasing)
	defer giveUp.Stop()
	select {
	case <-done:
	case <-giveUp.C:
	}
}

// hostEnrolment keeps a registration at hosts: under one session after the other.
type hostEnrolment struct {
	*app
	c         *remote.Client
	namespace string
	ttl       time.Duration

	ctx    context.Context // ends with leave
	stop   context.CancelFunc
	done   chan struct{}
	newer  context.Context // ends when somebody else registered the instance
	passed context.CancelFunc
	wake   chan struct{} // one token: the state changed

	mu   sync.Mutex
	want discovery.Instance
	s    *remote.Session
	t    core.Token
}

func (r *registering) enrolAtHost(ctx context.Context) (enrolment, error) {
	c, err := r.host(r.target)
	if err != nil {
		return nil, err
	}
	e := &hostEnrolment{app: r.app, c: c, namespace: r.app.namespace(r.target), ttl: r.ttl, want: r.instance, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	if err := e.renew(ctx); err != nil {
		e.closeSession()
		return nil, errors.Join(err, c.Close())
	}
	e.ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.newer, e.passed = context.WithCancel(context.WithoutCancel(ctx))
	go e.keep()
	return e, nil
}

func (e *hostEnrolment) token() core.Token {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.t
}

func (e *hostEnrolment) session() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.s.ID()
}

func (e *hostEnrolment) over() context.Context { return e.newer }

func (e *hostEnrolment) state(s discovery.State) {
	e.mu.Lock()
	if e.want.State != discovery.Draining {
		e.want.State = s
	}
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// renew opens a session, if the one before has ended, and registers under it.
func (e *hostEnrolment) renew(ctx context.Context) error {
	e.mu.Lock()
	s := e.s
	e.mu.Unlock()
	if s == nil || s.Context().Err() != nil {
		next, err := e.c.Open(ctx, remote.SessionConfig{TTL: e.ttl, Owner: ownerName(), Namespace: e.namespace})
		if err != nil {
			return err
		}
		if s != nil {
			_ = s.Close(ctx) // it has ended
		}
		s = next
		e.mu.Lock()
		e.s = s
		e.mu.Unlock()
	}
	return e.register(ctx, s)
}

func (e *hostEnrolment) register(ctx context.Context, s *remote.Session) error {
	e.mu.Lock()
	i := e.want
	e.mu.Unlock()
	req := &discoveryv1.RegisterRequest{SessionId: s.ID(), Namespace: e.namespace, Name: i.Service, Id: i.ID, Addr: i.Addr, Metadata: i.Metadata, Tags: i.Tags,
		Weight: int32(i.Weight), Zone: i.Zone, Version: i.Version, State: string(i.State)} //nolint:gosec // at most 65,535
	for _, c := range i.Checks {
		req.Checks = append(req.Checks, &discoveryv1.Check{Url: c.URL})
	}
	err := e.c.Do(ctx, func(cc grpc.ClientConnInterface) error {
		resp, err := discoveryv1.NewDiscoveryServiceClient(cc).Register(ctx, req)
		if err == nil {
			e.mu.Lock()
			e.t = core.Token(resp.GetToken())
			e.mu.Unlock()
		}
		return err
	})
	if recipe.Reason(err) == "session_expired" {
		e.closeSession()
	}
	return err
}

// keep registers again whenever that is needed, until leave.
func (e *hostEnrolment) keep() {
	defer close(e.done)
	for wait := askAgain; e.ctx.Err() == nil; {
		err := e.watch()
		switch {
		case e.ctx.Err() != nil, e.newer.Err() != nil:
			return
		case err != nil:
			wait = min(2*wait, askAgainMost)
		default:
			wait = askAgain
		}
		timer := time.NewTimer(wait)
		select {
		case <-e.ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		ctx, cancel := context.WithTimeout(e.ctx, releasing)
		if e.newer.Err() == nil && e.ctx.Err() == nil && e.renew(ctx) != nil {
			wait = min(2*wait, askAgainMost)
		}
		cancel()
	}
}

// errMissing says that the instance has to be registered again.
var errMissing = errors.New("not registered")

// watch returns when something has to be done for the registration.
func (e *hostEnrolment) watch() error {
	e.mu.Lock()
	s, service := e.s, e.want.Service
	e.mu.Unlock()
	if s == nil {
		return errMissing
	}
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.Context(), func() { cancel(context.Cause(s.Context())) })()
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		e.tell(ctx, s)
	}()
	defer func() {
		cancel(nil)
		<-changed
	}()
	return e.c.Do(ctx, func(cc grpc.ClientConnInterface) error {
		stream, err := discoveryv1.NewDiscoveryServiceClient(cc).Watch(ctx, &discoveryv1.WatchRequest{Namespace: e.namespace, Name: service})
		if err != nil {
			return err
		}
		for {
			resp, err := stream.Recv()
			if err != nil {
				return err
			}
			if err := e.check(resp); err != nil {
				return err
			}
		}
	})
}

// tell says every new state to the host, until ctx ends.
func (e *hostEnrolment) tell(ctx context.Context, s *remote.Session) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		}
		within, cancel := context.WithTimeout(ctx, leaving)
		err := e.register(within, s)
		cancel()
		if err == nil || ctx.Err() != nil {
			continue
		}
		timer := time.NewTimer(askAgain)
		select {
		case <-timer.C:
			e.state(e.current())
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (e *hostEnrolment) current() discovery.State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.want.State
}

// check compares what readers see with what is wanted.
func (e *hostEnrolment) check(resp *discoveryv1.WatchResponse) error {
	if resp.GetStale() {
		return nil
	}
	e.mu.Lock()
	id, token := e.want.ID, int64(e.t)
	e.mu.Unlock()
	for _, all := range [][]*discoveryv1.Instance{resp.GetInstances(), resp.GetOthers()} {
		for _, i := range all {
			switch {
			case i.GetId() != id:
			case i.GetToken() > token:
				e.passed()
				return errMissing
			case i.GetToken() == token:
				return nil
			}
		}
	}
	if resp.GetRevision() < token>>16 {
		return nil // from before
	}
	return fmt.Errorf("service %q: %w", resp.GetName(), errMissing)
}

func (e *hostEnrolment) leave() {
	e.stop()
	<-e.done
	ctx, cancel := context.WithTimeout(context.Background(), releasing)
	defer cancel()
	e.mu.Lock()
	s, i, t := e.s, e.want, e.t
	e.mu.Unlock()
	if s != nil && e.newer.Err() == nil {
		// With a word to readers; else they would count the instance as vanished.
		_ = e.c.Do(ctx, func(cc grpc.ClientConnInterface) error {
			_, err := discoveryv1.NewDiscoveryServiceClient(cc).Deregister(ctx, &discoveryv1.DeregisterRequest{
				SessionId: s.ID(), Namespace: e.namespace, Name: i.Service, Id: i.ID, Token: int64(t)})
			return err
		})
	}
	e.passed()
	e.closeSession()
	_ = e.c.Close()
}

// closeSession ends the session. What no host could be told ends after the TTL.
func (e *hostEnrolment) closeSession() {
	e.mu.Lock()
	s := e.s
	e.s = nil
	e.mu.Unlock()
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releasing)
	defer cancel()
	_ = s.Close(ctx)
}

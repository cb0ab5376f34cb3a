package host_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
)

// named is a keeper under another name.
type named struct {
	keeper
	name string
}

func (n named) Info() recipe.Info {
	return recipe.Info{Name: n.name, Version: "1.0.0", Summary: "First come, first kept"}
}

// A recipe comes and goes while the host runs, over every transport and in every
// document; one that cannot be served takes nothing from another.
func TestRecipesComeAndGo(t *testing.T) {
	t.Parallel()
	r := newHostile(t)
	h := start(t, onEtcd(), host.WithRecipe(r))
	if got := post(t, web(t), h.API(), "lock.v1.LockService/TryAcquire", "{}"); got.status != http.StatusNotFound && got.status != http.StatusNotImplemented {
		t.Fatalf("before: %+v", got)
	}
	conn := native(t, h)
	watch, err := hostv1.NewHostServiceClient(conn).WatchEvents(within(t), &hostv1.WatchEventsRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddRecipe(within(t), keeper{}); err != nil {
		t.Fatal(err)
	}
	if e, err := watch.Recv(); err != nil || e.GetRecipe().GetName() != "keeper" || e.GetRecipe().GetState() != hostv1.RecipeState_RECIPE_STATE_READY {
		t.Errorf("told %v, %v", e, err)
	}
	for what, err := range map[string]error{
		"a name twice":    h.AddRecipe(within(t), keeper{}),
		"a service twice": h.AddRecipe(within(t), named{name: "other"}),
		"the host's name": h.AddRecipe(within(t), named{name: "host"}),
		"a failed open":   h.AddRecipe(within(t), named{keeper{open: func() error { return errors.New("no") }}, "failing"}),
		"a panic":         h.AddRecipe(within(t), named{keeper{open: func() error { panic("no") }}, "panicking"}),
		"a missing one":   h.RemoveRecipe(within(t), "missing"),
	} {
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	// What was refused has taken nothing away.
	if got := post(t, web(t), h.API(), "lock.v1.LockService/Acquire", "{}"); !strings.HasPrefix(got.Message, "invalid_session_id") {
		t.Errorf("over HTTP: %+v", got)
	}
	if _, err := lockv1.NewLockServiceClient(conn).TryAcquire(within(t), &lockv1.TryAcquireRequest{}); recipe.Reason(err) != "invalid_session_id" {
		t.Errorf("native: %v", err)
	}
	const documented = "/conclave.lock.v1.LockService/TryAcquire"
	if got := get(t, web(t), h.API()+"/openapi.json"); !strings.Contains(got.body, documented) {
		t.Error("the document does not know it")
	}
	if err := h.RemoveRecipe(within(t), "keeper"); err != nil {
		t.Fatal(err)
	}
	if e, err := watch.Recv(); err != nil || e.GetRecipe().GetName() != "keeper" || e.GetRecipe().GetState() != hostv1.RecipeState_RECIPE_STATE_STOPPED {
		t.Errorf("told %v, %v", e, err)
	}
	if _, err := lockv1.NewLockServiceClient(conn).TryAcquire(within(t), &lockv1.TryAcquireRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("after: %v", err)
	}
	if got := get(t, web(t), h.API()+"/openapi.json"); strings.Contains(got.body, documented) {
		t.Error("the document still has it")
	}
	if err := h.AddRecipe(within(t), keeper{}); err != nil {
		t.Errorf("again: %v", err)
	}
	stop(t, h)
	if err := h.AddRecipe(within(t), named{name: "late"}); !errors.Is(err, host.ErrStopped) {
		t.Errorf("after the stop: %v", err)
	}
}

// Calls that wait do not keep a recipe from going: they are told to call again.
func TestRemovalEndsWaitingCalls(t *testing.T) {
	t.Parallel()
	h := start(t, onEtcd())
	id := post(t, web(t), h.API(), "session.v1.SessionService/Open", `{}`).SessionID
	waiting := make(chan error, 1)
	go func() {
		_, err := lockv1.NewLockServiceClient(native(t, h)).Acquire(within(t), &lockv1.AcquireRequest{SessionId: id, Name: "a"})
		waiting <- err
	}()
	inFlight(t, h, "Acquire")
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	if err := h.RemoveRecipe(ctx, "keeper"); err != nil {
		t.Error(err)
	}
	if err := <-waiting; status.Code(err) != codes.Unavailable || recipe.Reason(err) != "recipe_restarting" {
		t.Errorf("the call was told %v", err)
	}
}

// mutable is a recipe that stands for something outside: it tells how that is, and
// exchanges what it serves.
type mutable struct {
	env recipe.Env

	mu      sync.Mutex
	now     recipe.Report
	changed chan struct{}
	drained bool
}

func (*mutable) Info() recipe.Info {
	return recipe.Info{Name: "mutable", Version: "1.0.0", Summary: "Stands for something else"}
}

func (m *mutable) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	m.env = env
	lockv1.RegisterLockServiceServer(reg, &keeping{env: env})
	return m, nil
}

func (*mutable) Close(context.Context) error { return nil }

func (m *mutable) Drain(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drained = true
	return nil
}

func (m *mutable) Report() (recipe.Report, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now, m.changed
}

func (m *mutable) become(r recipe.Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.now, m.changed = r, make(chan struct{})
}

func TestInstancesThatReport(t *testing.T) {
	t.Parallel()
	m := &mutable{changed: make(chan struct{}), now: recipe.Report{State: recipe.StateStarting, Subprocess: true, Version: "2.0.0"}}
	h := start(t, onEtcd(), host.WithRecipe(m))
	c := hostv1.NewHostServiceClient(native(t, h))
	watch, err := c.WatchEvents(within(t), &hostv1.WatchEventsRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.ListRecipes(within(t), &hostv1.ListRecipesRequest{})
	if err != nil || len(list.GetRecipes()) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if r := list.GetRecipes()[0]; r.GetState() != hostv1.RecipeState_RECIPE_STATE_STARTING || r.GetMode() != hostv1.RecipeMode_RECIPE_MODE_SUBPROCESS || r.GetVersion() != "2.0.0" {
		t.Errorf("listed %v", r)
	}
	for state, want := range map[recipe.State]hostv1.RecipeState{
		recipe.StateReady: hostv1.RecipeState_RECIPE_STATE_READY, recipe.StateDegraded: hostv1.RecipeState_RECIPE_STATE_DEGRADED,
		recipe.StateBackoff: hostv1.RecipeState_RECIPE_STATE_BACKOFF, recipe.StateQuarantined: hostv1.RecipeState_RECIPE_STATE_QUARANTINED,
		recipe.StateDraining: hostv1.RecipeState_RECIPE_STATE_DRAINING, recipe.StateStopped: hostv1.RecipeState_RECIPE_STATE_STOPPED,
	} {
		m.become(recipe.Report{State: state, Detail: "because", Restarts: 3})
		for {
			e, err := watch.Recv()
			if err != nil {
				t.Fatalf("%v: %v", state, err)
			}
			if r := e.GetRecipe(); r.GetState() == want {
				if r.GetMessage() != "because" || r.GetRestarts() != 3 {
					t.Errorf("told %v", r)
				}
				break
			}
		}
	}
	stop(t, h)
	if !m.drained {
		t.Error("it was not asked to drain")
	}
}

// An exchange loses no call: those under way go on where they are, and one that is
// refused changes nothing.
func TestExchange(t *testing.T) {
	t.Parallel()
	m := &mutable{changed: make(chan struct{})}
	h := start(t, onEtcd(), host.WithRecipe(m), host.WithRecipe(newHostile(t)))
	id := post(t, web(t), h.API(), "session.v1.SessionService/Open", `{}`).SessionID
	conn := native(t, h)
	waiting := make(chan error, 1)
	go func() {
		_, err := lockv1.NewLockServiceClient(conn).Acquire(within(t), &lockv1.AcquireRequest{SessionId: id, Name: "a"})
		waiting <- err
	}()
	inFlight(t, h, "Acquire")
	reached := func() error {
		_, err := lockv1.NewLockServiceClient(conn).TryAcquire(within(t), &lockv1.TryAcquireRequest{})
		return err
	}
	if _, err := m.env.Carrier().Exchange(func(reg grpc.ServiceRegistrar) error {
		hostv1.RegisterHostServiceServer(reg, hostv1.UnimplementedHostServiceServer{}) // another's
		return nil
	}); err == nil {
		t.Error("another's service is exchanged")
	}
	if _, err := m.env.Carrier().Exchange(func(grpc.ServiceRegistrar) error { return errors.New("no") }); err == nil {
		t.Error("what failed is exchanged")
	}
	if err := reached(); recipe.Reason(err) != "invalid_session_id" {
		t.Errorf("after a refused exchange: %v", err)
	}
	if got := post(t, web(t), h.API(), "lock.v1.LockService/TryAcquire", "{}"); !strings.HasPrefix(got.Message, "invalid_session_id") {
		t.Errorf("after a refused exchange: %+v", got)
	}
	if got := post(t, web(t), h.API(), "host.v1.HostService/ListRecipes", "{}"); got.status != http.StatusOK {
		t.Errorf("the host's own service after a refused exchange: %+v", got)
	}
	wait, err := m.env.Carrier().Exchange(func(reg grpc.ServiceRegistrar) error {
		lockv1.RegisterLockServiceServer(reg, &keeping{env: m.env})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := reached(); recipe.Reason(err) != "invalid_session_id" {
		t.Errorf("after the exchange: %v", err)
	}
	select {
	case err := <-waiting:
		t.Errorf("the call under way was ended: %v", err)
	default:
	}
	over, cancel := context.WithCancel(within(t))
	cancel()
	if err := wait(over); !errors.Is(err, context.Canceled) {
		t.Errorf("waited for the call under way: %v", err)
	}
	if err := h.RemoveRecipe(within(t), "mutable"); err != nil {
		t.Error(err)
	}
	if _, err := m.env.Carrier().Exchange(func(grpc.ServiceRegistrar) error { return nil }); err == nil {
		t.Error("what is closed is exchanged")
	}
	if err := reached(); status.Code(err) != codes.Unimplemented {
		t.Errorf("after the removal: %v", err)
	}
	stop(t, h)
	if err := <-waiting; recipe.Reason(err) != "host_stopping" {
		t.Errorf("the call under way was told %v", err)
	}
	if err := wait(within(t)); err != nil {
		t.Errorf("waited for no call: %v", err)
	}
}

// Services for administrators answer on their socket, and over TCP only where the
// host was told so.
func TestAdminServices(t *testing.T) {
	t.Parallel()
	for name, overTCP := range map[string]bool{"socket only": false, "over TCP": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := onEtcd()
			cfg.DataDir = t.TempDir()
			h := start(t, cfg, host.WithRecipe(keeper{}), host.WithAdmin(overTCP, func(reg grpc.ServiceRegistrar) {
				pluginv1.RegisterControlServiceServer(reg, pluginv1.UnimplementedControlServiceServer{})
			}))
			socket, err := grpc.NewClient("unix://"+cfg.DataDir+"/conclave.sock", grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = socket.Close() }()
			tcp := codes.PermissionDenied
			if overTCP {
				tcp = codes.Unimplemented
			}
			for conn, want := range map[*grpc.ClientConn]codes.Code{socket: codes.Unimplemented, native(t, h): tcp} {
				_, err := pluginv1.NewControlServiceClient(conn).Describe(within(t), &pluginv1.DescribeRequest{})
				if status.Code(err) != want {
					t.Errorf("native: %v, want %v", err, want)
				}
			}
			if got := post(t, overSocket(t, cfg.DataDir), "http://localhost", "plugin.v1.ControlService/Describe", "{}"); got.Code != "unimplemented" {
				t.Errorf("HTTP on the socket: %+v", got)
			}
			if got := post(t, web(t), h.API(), "plugin.v1.ControlService/Describe", "{}"); (got.Code == "permission_denied") == overTCP {
				t.Errorf("HTTP: %+v", got)
			}
			// Everybody's services are everybody's.
			if got := post(t, web(t), h.API(), "host.v1.HostService/ListRecipes", "{}"); got.status != http.StatusOK {
				t.Errorf("ListRecipes: %+v", got)
			}
		})
	}
}

// checked is a recipe that knows whether it is well.
type checked struct {
	wrong *atomic.Pointer[error]
	free  chan struct{} // lets what hangs end, after the test
}

var errHangs = errors.New("it hangs")

func (checked) Info() recipe.Info { return recipe.Info{Name: "checked", Version: "1.0.0"} }

func (c checked) Open(context.Context, recipe.Env, grpc.ServiceRegistrar) (recipe.Instance, error) {
	return c, nil
}

func (checked) Close(context.Context) error { return nil }

func (c checked) Check(context.Context) error {
	if err := c.wrong.Load(); err != nil {
		if *err == nil {
			panic("a mistake")
		}
		if errors.Is(*err, errHangs) {
			<-c.free
		}
		return *err
	}
	return nil
}

func TestInstancesThatAreChecked(t *testing.T) {
	t.Parallel()
	c := checked{wrong: new(atomic.Pointer[error]), free: make(chan struct{})}
	t.Cleanup(func() { close(c.free) })
	h := start(t, onEtcd(), host.WithRecipe(c), host.CheckEvery(5*time.Millisecond))
	watch, err := hostv1.NewHostServiceClient(native(t, h)).WatchEvents(within(t), &hostv1.WatchEventsRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	hangs := errHangs
	wrong, none := errors.New("no disk left"), error(nil)
	for _, step := range []struct {
		wrong *error
		state hostv1.RecipeState
		text  string
	}{
		{&wrong, hostv1.RecipeState_RECIPE_STATE_DEGRADED, "no disk left"},
		{&none, hostv1.RecipeState_RECIPE_STATE_DEGRADED, "panic: a mistake"},
		{nil, hostv1.RecipeState_RECIPE_STATE_READY, ""},
		{&hangs, hostv1.RecipeState_RECIPE_STATE_DEGRADED, "it does not answer"},
	} {
		c.wrong.Store(step.wrong)
		for {
			e, err := watch.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if r := e.GetRecipe(); r != nil {
				if r.GetState() != step.state || r.GetMessage() != step.text {
					t.Errorf("told %v, want %v", r, step)
				}
				break
			}
		}
	}
}

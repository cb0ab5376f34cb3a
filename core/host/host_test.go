package host_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/fx"
	"go.uber.org/fx/fxtest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
)

// stopBound is the promise of Stop, two seconds, with room for a busy machine.
const stopBound = 6 * time.Second

// One port serves every form of a call, and the documents.
func TestServesOnOnePort(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	h := start(t, cfg)
	c := web(t)
	opened := post(t, c, h.API(), "session.v1.SessionService/Open", `{"ttl":"15s","owner":"me"}`)
	if opened.status != http.StatusOK || opened.SessionID == "" || opened.TTL != "15s" {
		t.Fatalf("opened %+v", opened)
	}
	kept := post(t, c, h.API(), "lock.v1.LockService/TryAcquire", fmt.Sprintf(`{"sessionId":%q,"name":"a"}`, opened.SessionID))
	if kept.status != http.StatusOK || kept.Token == "" {
		t.Errorf("kept %+v", kept)
	}
	// The same over the administrator's socket, and over native gRPC.
	refused := post(t, overSocket(t, cfg.DataDir), "http://localhost", "lock.v1.LockService/TryAcquire", fmt.Sprintf(`{"sessionId":%q,"name":"a"}`, opened.SessionID))
	if refused.status != http.StatusConflict || !strings.HasPrefix(refused.Message, "locked: ") {
		t.Errorf("refused %+v", refused)
	}
	_, err := lockv1.NewLockServiceClient(native(t, h)).TryAcquire(within(t), &lockv1.TryAcquireRequest{SessionId: opened.SessionID, Name: "a"})
	if status.Code(err) != codes.Aborted || recipe.Reason(err) != "locked" {
		t.Errorf("native: %v", err)
	}
	for path, want := range map[string]string{
		"/livez": "ok", "/readyz": "ok", "/readyz?verbose": "[+] etcd ok", "/metrics": "conclave_",
		"/openapi.json": "/conclave.lock.v1.LockService/TryAcquire", "/ui/": "LockService", "/": "LockService",
	} {
		if got := get(t, c, h.API()+path); got.status != http.StatusOK || !strings.Contains(got.body, want) {
			t.Errorf("%s: %d, without %q", path, got.status, want)
		}
	}
	info, err := os.Stat(filepath.Join(cfg.DataDir, "conclave.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", info, err)
	}
}

// Who names another host, or comes from another page, is refused.
func TestRefusesPagesOfOthers(t *testing.T) {
	t.Parallel()
	cfg := onEtcd()
	cfg.API.Names = []string{"conclave.internal"}
	h := start(t, cfg)
	for name, tt := range map[string]struct {
		host, origin string
		want         int
	}{
		"itself":        {"", "", http.StatusOK},
		"a given name":  {"conclave.internal", "", http.StatusOK},
		"another name":  {"evil.example", "", http.StatusForbidden},
		"another page":  {"", "http://evil.example", http.StatusForbidden},
		"its own page":  {"", h.API(), http.StatusOK},
		"rebound names": {"evil.example:2378", "http://evil.example:2378", http.StatusForbidden},
	} {
		req, err := http.NewRequestWithContext(within(t), http.MethodPost, h.API()+"/conclave.session.v1.SessionService/List", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if tt.host != "" {
			req.Host = tt.host
		}
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		if got := do(t, web(t), req); got.status != tt.want {
			t.Errorf("%s: %d %s", name, got.status, got.Message)
		}
	}
}

// A recipe's mistake is its own.
func TestPanicOfARecipe(t *testing.T) {
	t.Parallel()
	h := start(t, onEtcd())
	for range 2 {
		got := post(t, web(t), h.API(), "lock.v1.LockService/List", "{}")
		if got.Code != "internal" || !strings.HasPrefix(got.Message, "recipe_failed: ") || strings.Contains(got.Message, "a mistake") {
			t.Errorf("answered %+v", got)
		}
	}
}

// A session that was opened at one host is served by another, and outlives both.
func TestAnyHostServesAnySession(t *testing.T) {
	t.Parallel()
	one, other := start(t, onEtcd()), start(t, onEtcd())
	c := web(t)
	id := post(t, c, one.API(), "session.v1.SessionService/Open", `{}`).SessionID
	request := fmt.Sprintf(`{"sessionId":%q,"name":"any host"}`, id)
	if got := post(t, c, other.API(), "lock.v1.LockService/TryAcquire", request); got.status != http.StatusOK {
		t.Fatalf("other host: %+v", got)
	}
	if got := post(t, c, other.API(), "session.v1.SessionService/Renew", fmt.Sprintf(`{"sessionId":%q}`, id)); got.status != http.StatusOK {
		t.Errorf("other host: %+v", got)
	}
	stop(t, one)
	stop(t, other)
	again := start(t, onEtcd())
	if got := post(t, c, again.API(), "lock.v1.LockService/TryAcquire", request); !strings.HasPrefix(got.Message, "locked: ") {
		t.Errorf("after a restart: %+v", got)
	}
	if got := post(t, c, again.API(), "session.v1.SessionService/Close", fmt.Sprintf(`{"sessionId":%q}`, id)); got.status != http.StatusOK {
		t.Errorf("close: %+v", got)
	}
	if got := post(t, c, again.API(), "lock.v1.LockService/TryAcquire", request); !strings.HasPrefix(got.Message, "session_expired: ") {
		t.Errorf("after the end: %+v", got)
	}
}

// Calls that do not end by themselves are told why the host ends them.
func TestStopEndsCallsThatWait(t *testing.T) {
	t.Parallel()
	h := start(t, config(t))
	conn := native(t, h)
	opened, err := sessionv1.NewSessionServiceClient(conn).Open(within(t), &sessionv1.OpenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := lockv1.NewLockServiceClient(conn).Acquire(within(t), &lockv1.AcquireRequest{SessionId: opened.GetSessionId(), Name: "a"})
		waiting <- err
	}()
	stream, err := grpc_health_v1.NewHealthClient(conn).Watch(within(t), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	inFlight(t, h, "Acquire")
	begun := time.Now()
	stop(t, h)
	if took := time.Since(begun); took > stopBound {
		t.Errorf("the stop took %v", took)
	}
	if err := <-waiting; status.Code(err) != codes.Unavailable || recipe.Reason(err) != "host_stopping" {
		t.Errorf("the call that waited: %v", err)
	}
	stop(t, h) // again
	if h.Err() != nil {
		t.Errorf("a stop that was asked for: %v", h.Err())
	}
}

// inFlight returns when a call of the method is under way.
func inFlight(t *testing.T, h *host.Host, method string) {
	t.Helper()
	c := web(t)
	for ctx := within(t); ; {
		if ctx.Err() != nil {
			t.Fatalf("no call of %s is under way", method)
		}
		for line := range strings.Lines(get(t, c, h.API()+"/metrics").Message) {
			if strings.HasPrefix(line, "conclave_") && strings.Contains(line, "in_flight") && strings.Contains(line, method) && strings.HasSuffix(line, " 1\n") {
				return
			}
		}
	}
}

func TestConflictsAreNamed(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	h := start(t, cfg)
	if err := startError(t, cfg); !errors.Is(err, embedded.ErrDataDirInUse) {
		t.Errorf("the same directory: %v", err)
	}
	taken := config(t)
	taken.API.Listen = h.API()[len("http://"):]
	var inUse *host.AddressInUseError
	if err := startError(t, taken); !errors.As(err, &inUse) || inUse.Addr != taken.API.Listen {
		t.Errorf("the same address: %v", err)
	}
	if err := startError(t, config(t), host.WithRecipe(keeper{open: func() error { return errors.New("no") }})); err == nil || !strings.Contains(err.Error(), `recipe "keeper": no`) {
		t.Errorf("a recipe that cannot be opened: %v", err)
	}
	if err := startError(t, config(t), host.WithRecipe(keeper{open: func() error { panic("no") }})); err == nil || !strings.Contains(err.Error(), `recipe "keeper": panic: no`) {
		t.Errorf("a recipe that panics: %v", err)
	}
	if _, err := host.New(config(t), host.WithRecipe(keeper{}), host.WithRecipe(keeper{open: func() error { return nil }})); err == nil || !strings.Contains(err.Error(), `"keeper" is given twice`) {
		t.Errorf("twice: %v", err)
	}
	unknown := config(t)
	unknown.Recipes = map[string]host.RecipeConfig{"kepper": {}}
	if _, err := host.New(unknown, host.WithRecipe(keeper{})); !errors.Is(err, host.ErrConfig) {
		t.Errorf("unknown: %v", err)
	}
	if err := startError(t, config(t), host.WithHTTP("GET /livez", http.NotFoundHandler())); err == nil || !strings.Contains(err.Error(), "/livez") {
		t.Errorf("a pattern that is taken: %v", err)
	}
}

// startError returns why a host does not start; nothing of it may be left.
func startError(t *testing.T, cfg host.Config, opts ...host.Option) error {
	t.Helper()
	h, err := host.New(cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	err = h.Start(within(t))
	if err == nil {
		t.Error("it started")
		stop(t, h)
	}
	return err
}

// A host that waits for its cluster says that it lives and is not ready, and can
// be stopped.
func TestWithoutQuorumItLivesAndStops(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Name = "one"
	cfg.Etcd.ListenPeer = freeAddr(t)
	cfg.API.Listen = freeAddr(t)
	cfg.Etcd.InitialCluster = map[string]string{"one": "http://" + cfg.Etcd.ListenPeer, "two": "http://" + freeAddr(t), "three": "http://" + freeAddr(t)}
	h, err := host.New(cfg, host.WithRecipe(keeper{}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	c := web(t)
	for h.API() == "" {
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	if got := get(t, c, h.API()+"/livez"); got.status != http.StatusOK {
		t.Errorf("livez: %+v", got)
	}
	if got := get(t, c, h.API()+"/readyz"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.Message, "starting") {
		t.Errorf("readyz: %+v", got)
	}
	if got := post(t, c, h.API(), "lock.v1.LockService/TryAcquire", `{}`); got.status != http.StatusServiceUnavailable || !strings.HasPrefix(got.Message, "recipe_restarting: ") {
		t.Errorf("a call: %+v", got)
	}
	if _, err := lockv1.NewLockServiceClient(native(t, h)).TryAcquire(within(t), &lockv1.TryAcquireRequest{}); recipe.Reason(err) != "recipe_restarting" {
		t.Errorf("a native call: %v", err)
	}
	begun := time.Now()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > stopBound {
		t.Errorf("the stop took %v", took)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// With etcd's authentication on, and no login, the host lives on and says so.
func TestAuthEnabledUnderneath(t *testing.T) {
	t.Parallel()
	h := start(t, config(t))
	c := web(t)
	id := post(t, c, h.API(), "session.v1.SessionService/Open", `{}`).SessionID
	admin := dial(t, h)
	for _, err := range []error{
		second(admin.UserAdd(within(t), "root", "secret")), second(admin.UserGrantRole(within(t), "root", "root")), second(admin.AuthEnable(within(t))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	request := fmt.Sprintf(`{"sessionId":%q,"name":"a"}`, id)
	for method, body := range map[string]string{"session.v1.SessionService/Open": "{}", "lock.v1.LockService/TryAcquire": request} {
		if got := post(t, c, h.API(), method, body); got.status != http.StatusUnauthorized || !strings.HasPrefix(got.Message, "unauthenticated: ") {
			t.Errorf("%s: %+v", method, got)
		}
	}
	if got := get(t, c, h.API()+"/livez"); got.status != http.StatusOK {
		t.Errorf("livez: %+v", got)
	}
	if _, err := login(t, h).AuthDisable(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := post(t, c, h.API(), "lock.v1.LockService/TryAcquire", request); got.status != http.StatusOK {
		t.Errorf("after auth disable: %+v", got)
	}
}

func second[T any](_ T, err error) error { return err }

// fx starts and stops it as host.New, Start and Stop do.
func TestModule(t *testing.T) {
	t.Parallel()
	var h *host.Host
	app := fxtest.New(t, host.Module, fx.Supply(onEtcd()), host.Recipe(func() keeper { return keeper{} }),
		host.Add(host.WithHTTP("GET /hello", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))),
		fx.Populate(&h))
	app.RequireStart()
	if got := get(t, web(t), h.API()+"/hello"); got.Message != "hello" {
		t.Errorf("got %+v", got)
	}
	app.RequireStop()
	if h.Err() != nil {
		t.Error(h.Err())
	}
}

// A runner's error ends the host, and is told.
func TestRunner(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	h := start(t, onEtcd(), host.WithRunner(runner(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })))
	stop(t, h)
	h, err := host.New(onEtcd(), host.WithRunner(runner(func(context.Context) error { return broken })))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Run(within(t)); !errors.Is(err, broken) {
		t.Errorf("ended with %v", err)
	}
}

type runner func(ctx context.Context) error

func (r runner) Run(ctx context.Context, _ *host.Host) error { return r(ctx) }

// stubborn is a recipe that cannot be closed in order, as one whose etcd is away.
type stubborn struct{ keeper }

func (s stubborn) Open(ctx context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	i, err := s.keeper.Open(ctx, env, reg)
	return unclosed{i}, err
}

type unclosed struct{ recipe.Instance }

func (unclosed) Close(context.Context) error { return context.DeadlineExceeded }

// What went wrong in a stop that was asked for is logged, and no failure of the
// program that asked.
func TestAStopThatWasAskedForIsNoFailure(t *testing.T) {
	t.Parallel()
	said := &lines{line: make(chan string, 16)}
	h := start(t, onEtcd(), host.WithRecipe(stubborn{}), host.WithLogger(slog.New(slog.NewTextHandler(said, nil))))
	if err := errors.Join(h.Stop(within(t)), h.Err()); err != nil {
		t.Errorf("stop: %v", err)
	}
	for line := ""; !strings.Contains(line, `close recipe \"keeper\": context deadline exceeded`); {
		select {
		case line = <-said.line:
		default:
			t.Fatal("the log does not say what went wrong")
		}
	}
}

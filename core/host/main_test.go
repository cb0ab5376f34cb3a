package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "" {
		os.Exit(m.Run()) // etcd's own lock service leaves goroutines behind
	}
	coretest.Main(m, &etcd, coretest.WithChildren(children()))
}

// patience is for what happens soon; only a failure waits for it.
const patience = 30 * time.Second

func within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// keeper is a recipe of a few lines with the lock's API: whoever comes first keeps
// a name for as long as its session lives.
type keeper struct{ open func() error }

func (keeper) Info() recipe.Info {
	return recipe.Info{Name: "keeper", Version: "1.0.0", Summary: "First come, first kept"}
}

func (k keeper) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if k.open != nil {
		if err := k.open(); err != nil {
			return nil, err
		}
	}
	s := &keeping{env: env}
	lockv1.RegisterLockServiceServer(reg, s)
	return s, nil
}

type keeping struct {
	lockv1.UnimplementedLockServiceServer

	env recipe.Env
}

func (*keeping) Close(context.Context) error { return nil }

func (k *keeping) TryAcquire(ctx context.Context, r *lockv1.TryAcquireRequest) (*lockv1.TryAcquireResponse, error) {
	s, err := recipe.Session(ctx, k.env)
	if err != nil {
		return nil, err
	}
	key, err := k.env.Key(s.Namespace(), r.GetName())
	if err != nil {
		return nil, err
	}
	resp, err := k.env.Client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, s.Owner(), clientv3.WithLease(s.Lease()))).Commit()
	if err != nil {
		return nil, recipe.Status(err)
	}
	if !resp.Succeeded {
		return nil, recipe.Errorf(codes.Aborted, "locked", "kept by another")
	}
	return &lockv1.TryAcquireResponse{Token: resp.Header.GetRevision(), Name: r.GetName()}, nil
}

// Acquire waits for nothing but its end.
func (*keeping) Acquire(ctx context.Context, _ *lockv1.AcquireRequest) (*lockv1.AcquireResponse, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// List panics.
func (*keeping) List(context.Context, *lockv1.ListRequest) (*lockv1.ListResponse, error) {
	panic("a mistake")
}

func config(tb testing.TB) host.Config {
	return host.Config{
		DataDir: tb.TempDir(), API: host.API{Listen: "127.0.0.1:0"},
		Etcd: host.Etcd{ListenClient: "127.0.0.1:0", ListenPeer: "127.0.0.1:0", Fast: true, NoFsync: true},
	}
}

// onEtcd is the configuration of a host on the tests' own etcd.
func onEtcd() host.Config {
	return host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: []string{etcd.Endpoint()}}}
}

func start(tb testing.TB, cfg host.Config, opts ...host.Option) *host.Host {
	tb.Helper()
	if len(opts) == 0 {
		opts = []host.Option{host.WithRecipe(keeper{})}
	}
	h, err := host.New(cfg, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := h.Start(within(tb)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, h) })
	return h
}

func stop(tb testing.TB, h *host.Host) {
	tb.Helper()
	if err := h.Stop(within(tb)); err != nil {
		tb.Error(err)
	}
}

// answer is what a JSON call was answered.
type answer struct {
	status  int
	body    string
	Code    string `json:"code"`
	Message string `json:"message"`

	SessionID string `json:"sessionId"`
	Token     string `json:"token"`
	TTL       string `json:"ttl"`
}

// post calls a method in JSON.
func post(tb testing.TB, c *http.Client, base, method, body string) answer {
	tb.Helper()
	req, err := http.NewRequestWithContext(within(tb), http.MethodPost, base+"/conclave."+method, bytes.NewBufferString(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return do(tb, c, req)
}

func do(tb testing.TB, c *http.Client, req *http.Request) answer {
	tb.Helper()
	resp, err := c.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	a := answer{status: resp.StatusCode, body: string(b)}
	if err := json.Unmarshal(b, &a); err != nil {
		a.Message = string(b)
	}
	return a
}

// web returns an HTTP client of one test.
func web(tb testing.TB) *http.Client {
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// overSocket returns an HTTP client that reaches the administrator's socket.
func overSocket(tb testing.TB, dataDir string) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dataDir, "conclave.sock"))
	}}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// native returns a gRPC connection to the host.
func native(tb testing.TB, h *host.Host) *grpc.ClientConn {
	tb.Helper()
	c, err := grpc.NewClient(h.API()[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func get(tb testing.TB, c *http.Client, url string) answer {
	tb.Helper()
	req, err := http.NewRequestWithContext(within(tb), http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return do(tb, c, req)
}

// dial returns a client of the host's etcd.
func dial(tb testing.TB, h *host.Host) *clientv3.Client {
	tb.Helper()
	return coretest.Dial(tb, h.Etcd()[0])
}

// login returns a client of the host's etcd with root's rights.
func login(tb testing.TB, h *host.Host) *clientv3.Client {
	tb.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: h.Etcd(), Username: "root", Password: "secret", DialTimeout: patience, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

package scope_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/scope"
)

// patience bounds what must happen; no test passes or fails by being quicker.
const patience = 30 * time.Second

// etcd is the member that the package's tests share.
var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// newSpace returns a space that ends with the test.
func newSpace(tb testing.TB, back scope.Backend, instance string) *scope.Space {
	tb.Helper()
	s, err := scope.New(back, instance, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	return s
}

// A carrier is a way in which a recipe gets its client.
type carrier struct {
	name  string
	space *scope.Space
	c     *clientv3.Client
}

// carriers returns a recipe's client in the member's process, over a connection
// to the member, and served to another process.
func carriers(t *testing.T, instance string) []carrier {
	t.Helper()
	return carriersOf(t, etcd, instance)
}

func carriersOf(t *testing.T, e *coretest.Etcd, instance string) []carrier {
	t.Helper()
	direct := newSpace(t, scope.Backend(e.Member().Direct()), instance)
	conn := newSpace(t, scope.FromClient(e.Client(t)), instance)
	served := newSpace(t, scope.Backend(e.Member().Direct()), instance)
	servedConn := newSpace(t, scope.FromClient(e.Client(t)), instance)
	away := newSpace(t, scope.Backend(e.Member().Direct()), instance)
	return []carrier{
		{"direct", direct, direct.Client()},
		{"connection", conn, conn.Client()},
		{"remote", away, remote(t, serve(t, away))},
		{"served direct", served, dial(t, serve(t, served))},
		{"served connection", servedConn, dial(t, serve(t, servedConn))},
	}
}

// serve serves a space as a host does for a recipe in another process, and
// returns the address.
func serve(t *testing.T, s *scope.Space) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.UnknownServiceHandler(s.Unknown))
	s.Register(srv)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-ended
	})
	return l.Addr().String()
}

// remote returns the client of a recipe in another process.
func remote(t *testing.T, addr string) *clientv3.Client {
	t.Helper()
	conn := must[*grpc.ClientConn](t)(grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials())))
	c, closeClient := scope.Remote(conn, nil)
	t.Cleanup(func() {
		if err := errors.Join(closeClient(), closeClient(), conn.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func dial(t *testing.T, addr string) *clientv3.Client {
	t.Helper()
	c := must[*clientv3.Client](t)(clientv3.New(clientv3.Config{Endpoints: []string{"http://" + addr}, Logger: zap.NewNop()}))
	t.Cleanup(func() { _ = c.Close() }) // says that its context has ended
	return c
}

package status_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host/status"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

const patience = 30 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// start serves the status of a host on an etcd client, until the test ends.
func start(tb testing.TB, c *clientv3.Client, change ...func(*status.Config)) (*status.Service, hostv1.HostServiceClient) {
	tb.Helper()
	cfg := status.Config{Client: c, Log: slog.New(slog.DiscardHandler), Name: "h1", Version: "1.2.3", Endpoints: c.Endpoints(),
		Recipes: func() []*hostv1.Recipe { return nil }}
	for _, f := range change {
		f(&cfg)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s, g := status.New(cfg), grpc.NewServer()
	hostv1.RegisterHostServiceServer(g, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = g.Serve(ln) // ends with Stop
	}()
	cc, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cc.Close()
		if err := s.Stop(within(tb)); err != nil {
			tb.Error(err)
		}
		g.Stop()
		<-served
	})
	return s, hostv1.NewHostServiceClient(cc)
}

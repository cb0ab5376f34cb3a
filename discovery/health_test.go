package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/discovery"
)

func TestProbes(t *testing.T) {
	var code atomic.Int64
	code.Store(http.StatusOK)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) }))
	defer web.Close()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	server, status := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, status)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	defer func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	status.SetServingStatus("sick", healthpb.HealthCheckResponse_NOT_SERVING)
	addr := l.Addr().String()

	probe := func(check string) error {
		t.Helper()
		return must[discovery.Probe](t)(discovery.NewProbe(check))(within(t))
	}
	for _, check := range []string{web.URL + "/x", "tcp://" + addr, "grpc://" + addr, "exec:true"} {
		if err := probe(check); err != nil {
			t.Errorf("%s: %v", check, err)
		}
	}
	for _, check := range []string{"grpc://" + addr + "/sick", "grpc://" + addr + "/unknown", "exec:ls /nowhere/at/all", "exec:no-such-command", "tcp://127.0.0.1:1"} {
		if err := probe(check); err == nil || errors.Is(err, discovery.ErrWarning) {
			t.Errorf("%s: %v", check, err)
		}
	}
	isAll(t, probe("exec:false"), discovery.ErrWarning)
	code.Store(http.StatusTooManyRequests)
	isAll(t, probe(web.URL), discovery.ErrWarning)
	code.Store(http.StatusInternalServerError)
	if err := probe(web.URL); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("500: %v", err)
	}
	for _, check := range []string{"", "h:80", "exec:", "tcp://h", "ftp://h:1", "://"} {
		_, err := discovery.NewProbe(check)
		isAll(t, err, core.ErrInvalid)
	}
	isAll(t, discovery.Monitor(t.Context(), discovery.Check{}, nil), core.ErrInvalid)
}

// A check changes its mind only after several probes in a row.
func TestMonitorHasHysteresis(t *testing.T) {
	script := "+---+-+-+---++-wwpp"
	want := "passing critical passing warning passing"
	if got := monitored(t, script, discovery.Check{Interval: time.Millisecond, Rise: 2, Fall: 3}); strings.Join(got, " ") != want {
		t.Errorf("%s gave %q, want %q", script, got, want)
	}
	if got := monitored(t, "--+", discovery.Check{Interval: time.Millisecond, Rise: 1, Fall: 1}); !slices.Equal(got, []string{"critical", "passing"}) {
		t.Errorf("at once: %q", got)
	}
}

func monitored(t *testing.T, script string, c discovery.Check) (states []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	at := 0
	c.Timeout = time.Minute
	c.Probe = func(context.Context) error {
		if at == len(script) {
			cancel()
			return nil
		}
		at++
		switch script[at-1] {
		case '-':
			return errors.New("down")
		case 'w':
			return fmt.Errorf("%w: busy", discovery.ErrWarning)
		}
		return nil
	}
	isAll(t, discovery.Monitor(ctx, c, func(s discovery.State, _ error) { states = append(states, string(s)) }), context.Canceled)
	return states
}

func TestAMonitoredInstance(t *testing.T) {
	service := etcd.Prefix(t)
	i := instance(service, 1)
	i.State = discovery.Critical // until it is known to be well
	g := registered(t, registrar(t, discovery.WithDrainWait(0)), i)
	w := watching(t, resolver(t), service)
	w.sees("")
	var broken atomic.Bool
	done := make(chan error, 1)
	go func() {
		done <- g.Monitor(context.Background(), discovery.Check{Interval: 5 * time.Millisecond, Probe: func(context.Context) error {
			if broken.Load() {
				return errors.New("down")
			}
			return nil
		}})
	}()
	w.sees("i-0001")
	broken.Store(true)
	if s := w.sees(""); s.Others[0].State != discovery.Critical {
		t.Errorf("down: %+v", s)
	}
	broken.Store(false)
	w.sees("i-0001")
	if err := g.Drain(within(t)); err != nil {
		t.Fatal(err)
	}
	w.sees("")
	if err := g.Deregister(); err != nil {
		t.Fatal(err)
	}
	isAll(t, <-done, core.ErrReleased)
}

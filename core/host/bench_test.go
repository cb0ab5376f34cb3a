package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/lock"
)

// The benchmarks compare in turn within one run, and report the medians and
// their ratio; absolute figures are the machine's, ratios hold better. Run them
// alone:
//
//	go test -run '^$' -bench . ./core/host
const (
	rounds    = 5
	roundTime = 700 * time.Millisecond
	conns     = 4 // that the callers share
	benchTTL  = 10 * time.Minute
)

// A piece of work is what a caller does over and over.
type work func(ctx context.Context) error

// A contestant is what many callers do.
type contestant struct {
	name    string
	callers []work
}

func must[T any](tb testing.TB) func(T, error) T {
	tb.Helper()
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// dialled returns connections to a gRPC server.
func dialled(b *testing.B, addr string) []*grpc.ClientConn {
	b.Helper()
	var all []*grpc.ClientConn
	for range conns {
		c := must[*grpc.ClientConn](b)(grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials())))
		b.Cleanup(func() { _ = c.Close() })
		all = append(all, c)
	}
	return all
}

// compare lets the contestants run in turn, and reports how often a second each
// of them did its work, and its ratio to the first one.
func compare(b *testing.B, all ...contestant) {
	b.Helper()
	rates := make([][]float64, len(all))
	b.ResetTimer()
	for r := range rounds + 1 {
		for k := range all {
			k := (k + r) % len(all)
			if rate := measure(b, all[k].callers); r > 0 { // the first round warms up
				rates[k] = append(rates[k], rate)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for k, c := range all {
		b.ReportMetric(median(rates[k]), c.name+"/s")
	}
	b.ReportMetric(median(rates[1])/median(rates[0]), "ratio")
}

func measure(b *testing.B, callers []work) float64 {
	b.Helper()
	var count atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	begun := time.Now()
	timer := time.AfterFunc(roundTime, func() { stop.Store(true) })
	defer timer.Stop()
	for _, do := range callers {
		all.Go(func() {
			for !stop.Load() {
				if err := do(b.Context()); err != nil {
					b.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	all.Wait()
	return float64(count.Load()) / time.Since(begun).Seconds()
}

func median(rates []float64) float64 {
	slices.Sort(rates)
	return rates[len(rates)/2]
}

// BenchmarkLock compares lock and unlock through the host with etcd's own lock
// service on the same member: fsync, a session and a name for each caller, over
// as many connections on loopback. The aim is a ratio of 2 at 256 callers.
func BenchmarkLock(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			cfg := config(b)
			cfg.Etcd.NoFsync = false
			h := start(b, cfg, host.WithRecipe(lock.Recipe{}))
			compare(b, contestant{"v3lock", v3lockCallers(b, h, n)}, contestant{"conclave", lockCallers(b, h, n)})
		})
	}
}

func v3lockCallers(b *testing.B, h *host.Host, n int) (all []work) {
	b.Helper()
	c, to := dial(b, h), dialled(b, strings.TrimPrefix(h.Etcd()[0], "http://"))
	for i := range n {
		locks, name := v3lockpb.NewLockClient(to[i%conns]), fmt.Appendf(nil, "stock/%d", i)
		lease := must[*clientv3.LeaseGrantResponse](b)(c.Grant(b.Context(), int64(benchTTL/time.Second)))
		all = append(all, func(ctx context.Context) error {
			held, err := locks.Lock(ctx, &v3lockpb.LockRequest{Name: name, Lease: int64(lease.ID)})
			if err != nil {
				return err
			}
			_, err = locks.Unlock(ctx, &v3lockpb.UnlockRequest{Key: held.Key})
			return err
		})
	}
	return all
}

func lockCallers(b *testing.B, h *host.Host, n int) (all []work) {
	b.Helper()
	to := dialled(b, strings.TrimPrefix(h.API(), "http://"))
	for i := range n {
		locks, name := lockv1.NewLockServiceClient(to[i%conns]), fmt.Sprint("ours/", i)
		id := openSession(b, to[i%conns])
		all = append(all, func(ctx context.Context) error {
			held, err := locks.Acquire(ctx, &lockv1.AcquireRequest{SessionId: id, Name: name})
			if err != nil {
				return err
			}
			_, err = locks.Release(ctx, &lockv1.ReleaseRequest{SessionId: id, Name: name, Token: held.GetToken()})
			return err
		})
	}
	return all
}

func openSession(b *testing.B, c *grpc.ClientConn) string {
	b.Helper()
	opened, err := sessionv1.NewSessionServiceClient(c).Open(b.Context(), &sessionv1.OpenRequest{Ttl: durationpb.New(benchTTL)})
	if err != nil {
		b.Error(err)
	}
	return opened.GetSessionId()
}

// echo is a recipe that answers at once: what a call costs without etcd.
type echo struct{}

func (echo) Info() recipe.Info {
	return recipe.Info{Name: "echo", Version: "1.0.0", Summary: "Answers at once"}
}

func (echo) Open(_ context.Context, _ recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	lockv1.RegisterLockServiceServer(reg, echoing{})
	return echoing{}, nil
}

type echoing struct {
	lockv1.UnimplementedLockServiceServer
}

func (echoing) Close(context.Context) error { return nil }

func (echoing) Why(_ context.Context, r *lockv1.WhyRequest) (*lockv1.WhyResponse, error) {
	return &lockv1.WhyResponse{Name: r.GetName(), Kind: "write", Holders: []*lockv1.Holder{{Owner: "somebody", Token: 1 << 40, Mode: "write"}}}, nil
}

// BenchmarkJSON compares a call in JSON over HTTP through the host with a
// hand-made handler. The aim is a ratio of 0.5.
func BenchmarkJSON(b *testing.B) {
	h := start(b, config(b), host.WithRecipe(echo{}))
	plain := handMade(b)
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			compare(b, contestant{"handmade", jsonCallers(b, plain, n)}, contestant{"conclave", jsonCallers(b, h.API(), n)})
		})
	}
}

// handMade serves the same call as somebody would who needs nothing else.
func handMade(b *testing.B) (url string) {
	b.Helper()
	l := must[net.Listener](b)(net.Listen("tcp", "127.0.0.1:0"))
	s := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		req := new(lockv1.WhyRequest)
		if err == nil {
			err = protojson.Unmarshal(body, req)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		resp, err := echoing{}.Why(r.Context(), req)
		if err == nil {
			body, err = protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(resp)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			b.Error(err)
		}
	}()
	b.Cleanup(func() { _ = s.Close(); <-served })
	return "http://" + l.Addr().String()
}

func jsonCallers(b *testing.B, base string, n int) (all []work) {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: n}
	b.Cleanup(transport.CloseIdleConnections)
	c := &http.Client{Transport: transport}
	for range n {
		all = append(all, func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/conclave.lock.v1.LockService/Why", strings.NewReader(`{"name":"a/b"}`))
			if err != nil {
				return err
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := c.Do(req)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(resp.Body)
			if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("somebody"))) {
				err = fmt.Errorf("answered %d %s", resp.StatusCode, body)
			}
			return errors.Join(err, resp.Body.Close())
		})
	}
	return all
}

// BenchmarkUnary compares a native call through the host, its splitter and its
// chain, with gRPC's own server. The aim is a ratio of 0.83.
func BenchmarkUnary(b *testing.B) {
	h := start(b, config(b), host.WithRecipe(echo{}))
	l := must[net.Listener](b)(net.Listen("tcp", "127.0.0.1:0"))
	bare := grpc.NewServer()
	lockv1.RegisterLockServiceServer(bare, echoing{})
	served := make(chan error, 1)
	go func() { served <- bare.Serve(l) }()
	b.Cleanup(func() {
		bare.Stop()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			compare(b, contestant{"grpc", unaryCallers(b, l.Addr().String(), n)}, contestant{"conclave", unaryCallers(b, strings.TrimPrefix(h.API(), "http://"), n)})
		})
	}
}

func unaryCallers(b *testing.B, addr string, n int) (all []work) {
	b.Helper()
	to := dialled(b, addr)
	for i := range n {
		c := lockv1.NewLockServiceClient(to[i%conns])
		all = append(all, func(ctx context.Context) error {
			_, err := c.Why(ctx, &lockv1.WhyRequest{Name: "a/b"})
			return err
		})
	}
	return all
}

// BenchmarkMemory reports what a host and its etcd keep in memory: idle, with
// 10,000 sessions open, and with as many locks held, one by each. RSS is the whole
// process's, and includes another etcd member and the callers.
func BenchmarkMemory(b *testing.B) {
	const many = 10_000
	before := heap()
	h := start(b, config(b), host.WithRecipe(lock.Recipe{}))
	if got := get(b, web(b), h.API()+"/readyz"); got.status != http.StatusOK {
		b.Fatal(got)
	}
	idle := heap()
	report := func(what string, since uint64) uint64 {
		now := heap()
		b.ReportMetric((float64(now)-float64(since))/many, "B/"+what)
		if rss := residentSet(); rss > 0 {
			b.ReportMetric(float64(rss)/1e6, "MB-rss-"+what)
		}
		return now
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric((float64(idle)-float64(before))/1e6, "MB-heap-idle")
	if rss := residentSet(); rss > 0 {
		b.ReportMetric(float64(rss)/1e6, "MB-rss-idle")
	}
	to := dialled(b, strings.TrimPrefix(h.API(), "http://"))
	ids := make([]string, many)
	abreast(many, func(i int) { ids[i] = openSession(b, to[i%conns]) })
	sessions := report("session", idle)
	abreast(many, func(i int) {
		if _, err := lockv1.NewLockServiceClient(to[i%conns]).Acquire(b.Context(), &lockv1.AcquireRequest{SessionId: ids[i], Name: fmt.Sprint("held/", i)}); err != nil {
			b.Error(err)
		}
	})
	report("lock", sessions)
}

// abreast calls f for every number below n, many at a time.
func abreast(n int, f func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	all.Wait()
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// residentSet is the process's, in bytes; 0 where the system does not tell.
func residentSet() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
			if err == nil {
				return n << 10
			}
		}
	}
	return 0
}

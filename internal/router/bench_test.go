package router_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/internal/router"
)

// renewer is a service of generated code with nothing in it.
type renewer struct {
	sessionv1.UnimplementedSessionServiceServer
}

func (renewer) Renew(context.Context, *sessionv1.RenewRequest) (*sessionv1.RenewResponse, error) {
	return &sessionv1.RenewResponse{}, nil
}

// BenchmarkUnary compares a unary call with a body of 64 bytes through the router
// with the same call of the same server without it. Both run in turns, and the
// ratio is the one of the medians.
func BenchmarkUnary(b *testing.B) {
	bare := sessionv1.NewSessionServiceClient(serve(b, func(s *grpc.Server) { sessionv1.RegisterSessionServiceServer(s, renewer{}) }))

	f := newFront(b, router.Config{})
	g := f.Registrar("host", router.AllowReserved())
	sessionv1.RegisterSessionServiceServer(g, renewer{})
	if err := g.Publish(); err != nil {
		b.Fatal(err)
	}
	routed := sessionv1.NewSessionServiceClient(f.conn)

	req := &sessionv1.RenewRequest{SessionId: strings.Repeat("x", 64)}
	call := func(c sessionv1.SessionServiceClient) func() error {
		return func() error {
			_, err := c.Renew(b.Context(), req)
			return err
		}
	}
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			compare(b, callers, "bare", call(bare), "router", call(routed))
		})
	}
}

// BenchmarkSession compares a call whose session the router resolves with one
// that has none.
func BenchmarkSession(b *testing.B) {
	f := newFront(b, router.Config{Sessions: resolver{}})
	f.local(b, "echo", &echo{}, echoName)
	in := newMessage(service(b, echoName).Methods().ByName("Own").Input(), strings.Repeat("x", 64)).with(fieldSession, "default-1")
	call := func(method string) func() error {
		return func() error {
			_, err := f.invoke(b.Context(), "/"+echoName+"/"+method, in)
			return err
		}
	}
	compare(b, 1, "plain", call("Do"), "session", call("Own"))
}

// BenchmarkProxy compares a call to a service in this process with one that the
// router forwards to another server.
func BenchmarkProxy(b *testing.B) {
	in := newMessage(service(b, echoName).Methods().ByName("Do").Input(), strings.Repeat("x", 64))
	local, proxied := newFront(b, router.Config{}), newFront(b, router.Config{})
	local.local(b, "echo", &echo{}, echoName)
	p := startProcess(b, &echo{})
	proxied.proxy(b, "echo").Connect(p.conn, p.done)
	call := func(f *front) func() error {
		return func() error {
			_, err := f.invoke(b.Context(), "/"+echoName+"/Do", in)
			return err
		}
	}
	compare(b, 1, "local", call(local), "proxy", call(proxied))
}

// compare runs one and other in turns, a round of calls each, and reports the
// median time of a call of both and the ratio.
func compare(b *testing.B, callers int, oneName string, one func() error, otherName string, other func() error) {
	b.Helper()
	const calls = 4096
	per := max(calls/callers/16, 16)
	round := func(call func() error) time.Duration {
		began := time.Now()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range per {
					if err := call(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return time.Since(began) / time.Duration(callers*per)
	}
	round(one)
	round(other)
	var ones, others []time.Duration
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			ones, others = append(ones, round(one)), append(others, round(other))
		} else {
			others, ones = append(others, round(other)), append(ones, round(one))
		}
	}
	a, c := median(ones), median(others)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(a)/1e3, oneName+"-µs")
	b.ReportMetric(float64(c)/1e3, otherName+"-µs")
	b.ReportMetric(float64(c)/float64(a), "ratio")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

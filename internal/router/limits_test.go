package router_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/internal/router"
)

// waiting is an echo whose calls wait, having said so, if they are asked to.
func waiting(entered chan<- struct{}) *echo {
	e := held("", entered, nil)
	e.stream = func(_ string, s echoStream) error {
		entered <- struct{}{}
		<-s.Context().Done()
		return s.Context().Err()
	}
	return e
}

func TestLimitCalls(t *testing.T) {
	for _, c := range []struct {
		name          string
		limits        router.Limits
		fills         string // a waiting call of this method takes the only place
		over, through []string
	}{
		{"reads", router.Limits{Reads: 1}, "Read", []string{"Read"}, []string{"Do", "Settle"}},
		{"writes", router.Limits{Writes: 1}, "Do", []string{"Do"}, []string{"Read", "Settle"}},
		{"settling", router.Limits{Settling: 1}, "Settle", []string{"Settle"}, []string{"Read", "Do"}},
		{"all", router.Limits{Calls: 1}, "Do", []string{"Do", "Read"}, []string{"Settle"}},
		{"none", router.Limits{Calls: -1, Writes: -1}, "Do", nil, []string{"Do", "Read", "Settle"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			entered := make(chan struct{}, 1)
			f := newFront(t, router.Config{Limits: c.limits})
			f.local(t, "echo", waiting(entered), echoName)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := f.callIn(ctx, t, c.fills, "wait")
				done <- err
			}()
			<-entered
			for _, method := range c.over {
				_, err := f.call(t, method, "")
				want(t, err, codes.ResourceExhausted, "limit_calls")
			}
			for _, method := range c.through {
				if _, err := f.call(t, method, ""); err != nil {
					t.Errorf("%s: got %v", method, err)
				}
			}
			if _, err := healthpb.NewHealthClient(f.conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
				t.Errorf("health: got %v", err)
			}
			cancel()
			want(t, <-done, codes.Canceled, "")
			for _, method := range c.over { // the place is free again
				until(t, func() bool {
					_, err := f.call(t, method, "")
					return err == nil
				})
			}
		})
	}
}

func TestLimitStreams(t *testing.T) {
	entered := make(chan struct{}, 1)
	cfg := router.Config{
		Limits: router.Limits{CallerStreams: 1},
		Authorizer: authorizer(func(ctx context.Context, _ *router.Method) (string, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			return first(md, "x-as"), nil
		}),
	}
	f := newFront(t, cfg)
	f.local(t, "echo", waiting(entered), echoName)
	for _, who := range []string{"", "ann", "bob"} { // "" is known by the connection
		ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "x-as", who))
		f.open(ctx, t, "Watch")
		<-entered
		_, err := f.open(ctx, t, "Watch").recv()
		want(t, err, codes.ResourceExhausted, "limit_streams")
		if _, err := f.callIn(ctx, t, "Do", ""); err != nil {
			t.Errorf("a unary call: got %v", err)
		}
		cancel()
	}
	until(t, func() bool { return router.InFlight(f.Router) == 0 })
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "x-as", "ann"))
	defer cancel()
	f.open(ctx, t, "Watch")
	<-entered
}

func TestLimitAllStreams(t *testing.T) {
	entered := make(chan struct{}, 1)
	f := newFront(t, router.Config{Limits: router.Limits{Streams: 1}})
	f.local(t, "echo", waiting(entered), echoName)
	f.open(t.Context(), t, "Watch")
	<-entered
	_, err := f.open(t.Context(), t, "Chat").recv()
	want(t, err, codes.ResourceExhausted, "limit_calls")
}

func TestLimitMessage(t *testing.T) {
	backends(t, router.Config{Limits: router.Limits{MessageBytes: 1000}}, &echo{}, func(t *testing.T, f *front) {
		const overhead = 3 // the tag and the length of the text
		fits := strings.Repeat("x", 1000-overhead)
		if _, err := f.call(t, "Do", fits); err != nil {
			t.Errorf("a message of the limit's size: got %v", err)
		}
		_, err := f.call(t, "Do", fits+"x")
		want(t, err, codes.ResourceExhausted, "limit_message")
		chat := f.open(t.Context(), t, "Chat")
		exchangeOne(t, chat)
		if err := chat.send(fits + "x"); err != nil {
			t.Fatal(err)
		}
		_, err = chat.recv()
		want(t, err, codes.ResourceExhausted, "limit_message")
		_, err = f.call(t, "Do", strings.Repeat("x", 5000)) // what grpc-go refuses by itself
		want(t, err, codes.ResourceExhausted, "")
	})
}

func TestDefaultMessageLimit(t *testing.T) {
	f := newFront(t, router.Config{})
	f.local(t, "echo", &echo{}, echoName)
	_, err := f.call(t, "Do", strings.Repeat("x", 2_000_000))
	want(t, err, codes.ResourceExhausted, "limit_message")
}

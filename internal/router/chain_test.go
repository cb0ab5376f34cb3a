package router_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/internal/reason"
	"github.com/conclavehq/conclave/internal/router"
)

func TestPanic(t *testing.T) {
	log := new(logged)
	e := &echo{
		unary: func(_ context.Context, _ string, in message) (message, error) {
			if in.text() == "panic" {
				panic("the secret of the recipe")
			}
			return in, nil
		},
		stream: func(string, echoStream) error { panic(errors.New("the secret of the recipe")) },
	}
	f := newFront(t, router.Config{Log: log.logger()})
	f.local(t, "echo", e, echoName)
	_, unary := f.call(t, "Do", "panic")
	_, stream := f.open(t.Context(), t, "Chat").recv()
	for _, err := range []error{unary, stream} {
		want(t, err, codes.Internal, "recipe_failed")
		if strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("the caller is told what panicked: %v", err)
		}
	}
	for _, part := range []string{"/" + echoName + "/Do", "/" + echoName + "/Chat", "the secret of the recipe", "chain_test.go"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log does not have %q", part)
		}
	}
	if got, err := f.call(t, "Do", "alive"); err != nil || got != "alive" {
		t.Errorf("after the panics: got %q, %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	secret := errors.New("dial unix /run/secret: refused")
	for _, c := range []struct {
		name string
		err  error
		code codes.Code
		why  string
		text string
	}{
		{"no status", secret, codes.Unknown, "recipe_failed", "the host's log has the reason"},
		{"bare cancellation", fmt.Errorf("acquire: %w", context.Canceled), codes.Canceled, "canceled", ""},
		{"bare deadline", fmt.Errorf("acquire: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "deadline_exceeded", ""},
		{"status", status.Error(codes.NotFound, "gone"), codes.NotFound, "", "gone"},
		{"wrapped status", fmt.Errorf("look: %w", reason.Errorf(codes.NotFound, "not_found", "gone")), codes.NotFound, "not_found", "gone"},
		{"wrapped foreign status", fmt.Errorf("look: %w", status.Error(codes.NotFound, "gone")), codes.NotFound, "", "look: "},
		{"status OK", fmt.Errorf("odd: %w", okError{}), codes.Unknown, "recipe_failed", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := new(logged)
			f := newFront(t, router.Config{Log: log.logger()})
			f.local(t, "echo", &echo{
				unary:  func(context.Context, string, message) (message, error) { return message{}, c.err },
				stream: func(string, echoStream) error { return c.err },
			}, echoName)
			_, unary := f.call(t, "Do", "")
			_, stream := f.open(t.Context(), t, "Chat").recv()
			for _, err := range []error{unary, stream} {
				want(t, err, c.code, c.why)
				if !strings.Contains(fmt.Sprint(err), c.text) || strings.Contains(fmt.Sprint(err), "secret") {
					t.Errorf("got %v", err)
				}
			}
			if logs := c.code == codes.Unknown; logs != strings.Contains(log.String(), c.err.Error()) {
				t.Errorf("log: %s", log)
			}
		})
	}
}

type okError struct{}

func (okError) Error() string              { return "odd" }
func (okError) GRPCStatus() *status.Status { return status.New(codes.OK, "") }

// seen answers with all metadata that the service sees.
func seen(got *metadata.MD) *echo {
	return &echo{unary: func(ctx context.Context, _ string, in message) (message, error) {
		*got, _ = metadata.FromIncomingContext(ctx)
		md := metadata.Pairs("x-out", "v", "conclave-out", "v", "grpc-trace-bin", "v", "set-cookie", "v")
		if err := errors.Join(grpc.SetHeader(ctx, md), grpc.SetTrailer(ctx, md)); err != nil {
			return message{}, err
		}
		return in, nil
	}}
}

func TestMetadata(t *testing.T) {
	var got metadata.MD
	backends(t, router.Config{}, seen(&got), func(t *testing.T, f *front) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-in", "v", "Conclave-Lease", "7", "conclave-identity", "root",
			"authorization", "Bearer s3cret", "cookie", "s3cret", "grpc-trace-bin", "t", "grpc-encoding-hint", "h",
			"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage", "a=b")
		var header, trailer metadata.MD
		if _, err := f.callIn(ctx, t, "Do", "", grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{"x-in", "grpc-trace-bin", "traceparent", "baggage"} {
			if len(got.Get(k)) != 1 {
				t.Errorf("the service sees %s as %q", k, got.Get(k))
			}
		}
		for k, v := range got {
			if k := strings.ToLower(k); strings.HasPrefix(k, "conclave-") || strings.Contains(fmt.Sprint(v), "s3cret") || k == "grpc-encoding-hint" {
				t.Errorf("the service sees %s: %s", k, v)
			}
		}
		for _, md := range []metadata.MD{header, trailer} {
			if first(md, "x-out") != "v" || first(md, "grpc-trace-bin") != "v" {
				t.Errorf("got %v", md)
			}
			if first(md, "conclave-out") != "" || first(md, "set-cookie") != "" {
				t.Errorf("got %v, want nothing of the host's", md)
			}
		}
	})
}

func TestHidden(t *testing.T) {
	for _, c := range []struct {
		key     string
		in, out bool
	}{
		{":authority", true, true}, {"content-type", true, true}, {"user-agent", true, false}, {"te", true, false},
		{"conclave-lease", true, true}, {"conclave", false, false}, {"authorization", true, false}, {"cookie", true, false},
		{"grpc-timeout", true, true}, {"grpc-status-details-bin", true, true}, {"grpc-trace-bin", false, false}, {"grpc-tags-bin", false, false},
		{"traceparent", false, false}, {"tracestate", false, false}, {"baggage", false, false}, {"x-request-id", false, false},
	} {
		if in, out := router.Hidden.Inbound(c.key), router.Hidden.Outbound(c.key); in != c.in || out != c.out {
			t.Errorf("%s: hidden inbound %t and outbound %t, want %t and %t", c.key, in, out, c.in, c.out)
		}
	}
}

// TestTrusted keeps what the host's chain said.
func TestTrusted(t *testing.T) {
	var got metadata.MD
	f := newFront(t, router.Config{Trusted: true, Authorizer: refuseAll{}, Sessions: resolver{}})
	f.local(t, "echo", seen(&got), echoName)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "conclave-lease", "7")
	if _, err := f.callIn(ctx, t, "Own", ""); err != nil {
		t.Fatal(err)
	}
	if first(got, "conclave-lease") != "7" {
		t.Errorf("got %v", got)
	}
}

type refuseAll struct{}

func (refuseAll) Authorize(context.Context, *router.Method) (string, error) {
	return "", reason.Errorf(codes.Unauthenticated, "unauthenticated", "no")
}

// authorizer is one of tests.
type authorizer func(ctx context.Context, m *router.Method) (string, error)

func (a authorizer) Authorize(ctx context.Context, m *router.Method) (string, error) {
	return a(ctx, m)
}

func TestAuthorize(t *testing.T) {
	log := new(logged)
	asked := map[string]recipev1.Permission{}
	cfg := router.Config{Log: log.logger(), Authorizer: authorizer(func(ctx context.Context, m *router.Method) (string, error) {
		asked[m.Name()] = m.Permission
		if p, ok := peer.FromContext(ctx); !ok || p.Addr == nil {
			return "", errors.New("no peer")
		}
		md, _ := metadata.FromIncomingContext(ctx)
		switch first(md, "authorization") {
		case "Bearer ann":
			return "ann", nil
		case "Bearer broken":
			return "", errors.New("the store of tokens is down")
		}
		return "", reason.Errorf(codes.Unauthenticated, "unauthenticated", "log in first")
	})}
	var got metadata.MD
	f := newFront(t, cfg)
	f.local(t, "echo", seen(&got), echoName, otherName)
	as := func(token string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", token, "conclave-identity", "root")
	}
	_, err := f.callIn(as("Bearer eve"), t, "Do", "")
	want(t, err, codes.Unauthenticated, "unauthenticated")
	_, err = f.callIn(as("Bearer broken"), t, "Do", "")
	want(t, err, codes.PermissionDenied, "not_permitted")
	if !strings.Contains(log.String(), "the store of tokens is down") || strings.Contains(fmt.Sprint(err), "store") {
		t.Errorf("got %v, log %s", err, log)
	}
	if got != nil {
		t.Error("a call that was refused reached the service")
	}
	if _, err := healthpb.NewHealthClient(f.conn).Check(as("Bearer ann"), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"Do", "Read", "Silent"} {
		if _, err := f.callIn(as("Bearer ann"), t, method, ""); err != nil {
			t.Fatal(err)
		}
	}
	if v := got.Get("conclave-identity"); len(v) != 1 || v[0] != "ann" {
		t.Errorf("the service sees the identity %q, want ann alone", v)
	}
	if asked["Do"] != recipev1.Permission_PERMISSION_WRITE || asked["Read"] != recipev1.Permission_PERMISSION_READ ||
		asked["Silent"] != recipev1.Permission_PERMISSION_ADMIN || asked["Check"] != recipev1.Permission_PERMISSION_PUBLIC {
		t.Errorf("asked for %v; whoever declares nothing asks for administration", asked)
	}
}

func TestReadsEnd(t *testing.T) {
	e := &echo{unary: func(ctx context.Context, method string, in message) (message, error) {
		if in.text() == "wait" {
			<-ctx.Done()
			return message{}, ctx.Err()
		}
		end, ok := ctx.Deadline()
		if !ok {
			return newMessage(in.Descriptor(), "none"), nil
		}
		if time.Until(end) > time.Minute {
			return newMessage(in.Descriptor(), "far"), nil
		}
		return newMessage(in.Descriptor(), "near"), nil
	}}
	f := newFront(t, router.Config{})
	f.local(t, "echo", e, echoName)
	far, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for _, c := range []struct {
		ctx          context.Context
		method, want string
	}{
		{t.Context(), "Read", "near"}, {far, "Read", "near"}, {t.Context(), "Do", "none"}, {far, "Do", "far"}, {t.Context(), "Settle", "none"},
	} {
		if got, err := f.callIn(c.ctx, t, c.method, ""); err != nil || got != c.want {
			t.Errorf("%s: got a deadline that is %s, %v; want %s", c.method, got, err, c.want)
		}
	}
	short := newFront(t, router.Config{MaxRead: time.Millisecond})
	short.local(t, "echo", e, echoName)
	_, err := short.call(t, "Read", "wait")
	want(t, err, codes.DeadlineExceeded, "deadline_exceeded")
	if !strings.Contains(fmt.Sprint(err), "longer than 1ms") {
		t.Errorf("got %v, want it to name the limit", err)
	}
}

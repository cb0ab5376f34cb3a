package router_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/reason"
	"github.com/conclavehq/conclave/internal/router"
)

// resolver knows the sessions by their names: "<namespace>-…".
type resolver struct{}

func (resolver) Resolve(ctx context.Context, id, _ string) (metadata.MD, error) {
	namespace, _, ok := strings.Cut(id, "-")
	if !ok {
		return nil, reason.Errorf(codes.FailedPrecondition, "session_expired", "session_id: %q has ended", id)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return metadata.Pairs("conclave-session", id, "conclave-lease", "1f", "conclave-ttl", "15", "conclave-namespace", namespace,
		"conclave-identity", "opener", "conclave-asked-by", first(md, "conclave-identity")), nil
}

func (f *front) own(t *testing.T, ctx context.Context, method, id, namespace string) error {
	t.Helper()
	in := newMessage(service(t, echoName).Methods().ByName("Own").Input(), "text").with(fieldSession, id).with(fieldNamespace, namespace)
	_, err := f.invoke(ctx, "/"+echoName+"/"+method, in)
	return err
}

func TestSession(t *testing.T) {
	var got metadata.MD
	backends(t, router.Config{Sessions: resolver{}}, seen(&got), func(t *testing.T, f *front) {
		for _, c := range []struct {
			method, id, namespace string
			code                  codes.Code
			why                   string
			lease, ns             string
		}{
			{"Own", "default-1", "", codes.OK, "", "1f", "default"},
			{"Own", "default-1", "default", codes.OK, "", "1f", "default"},
			{"Own", "team-1", "team", codes.OK, "", "1f", "team"},
			{"Own", "", "", codes.InvalidArgument, "invalid_session_id", "", ""},
			{"Own", "default-1", "team", codes.InvalidArgument, "invalid_namespace", "", ""},
			{"Own", "team-1", "", codes.InvalidArgument, "invalid_namespace", "", ""},
			{"Own", "gone", "", codes.FailedPrecondition, "session_expired", "", ""},
			{"Maybe", "default-1", "", codes.OK, "", "1f", "default"},
			{"Maybe", "", "team", codes.OK, "", "", ""},
			{"Maybe", "gone", "", codes.FailedPrecondition, "session_expired", "", ""},
			{"Do", "default-1", "", codes.OK, "", "", ""}, // declares no session
		} {
			got = nil
			ctx := metadata.AppendToOutgoingContext(t.Context(), "conclave-lease", "666", "conclave-session", "forged", "x-key", "v")
			err := f.own(t, ctx, c.method, c.id, c.namespace)
			want(t, err, c.code, c.why)
			if c.code != codes.OK {
				if got != nil {
					t.Errorf("%v: a call that was refused reached the service", c)
				}
				continue
			}
			if first(got, "conclave-lease") != c.lease || first(got, "conclave-namespace") != c.ns || first(got, "x-key") != "v" ||
				len(got.Get("conclave-lease")) > 1 || first(got, "conclave-session") == "forged" {
				t.Errorf("%v: the service sees %v", c, got)
			}
		}
	})
}

func TestSessionOfAStream(t *testing.T) {
	e := &echo{stream: func(_ string, s echoStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		for {
			in, err := s.recv()
			if err != nil {
				return err
			}
			if err := s.send(in.text() + first(md, "conclave-lease")); err != nil {
				return err
			}
		}
	}}
	backends(t, router.Config{Sessions: resolver{}}, e, func(t *testing.T, f *front) {
		s := f.open(t.Context(), t, "OwnChat")
		for _, id := range []string{"default-1", ""} { // only the first message names it
			if err := s.SendMsg(s.message("text").with(fieldSession, id).Message); err != nil {
				t.Fatal(err)
			}
			if got, err := s.recv(); err != nil || got != "text1f" {
				t.Errorf("got %q, %v", got, err)
			}
		}
		s = f.open(t.Context(), t, "OwnChat")
		if err := s.send("no session"); err != nil {
			t.Fatal(err)
		}
		_, err := s.recv()
		want(t, err, codes.InvalidArgument, "invalid_session_id")
		s = f.open(t.Context(), t, "OwnChat")
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		_, err = s.recv()
		want(t, err, codes.InvalidArgument, "invalid_request")
	})
}

// TestIdentityOfASession: who calls is what authorisation says; only where it
// says nothing it is who opened the session.
func TestIdentityOfASession(t *testing.T) {
	var got metadata.MD
	f := newFront(t, router.Config{Sessions: resolver{}, Authorizer: authorizer(func(ctx context.Context, _ *router.Method) (string, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return first(md, "x-as"), nil
	})})
	f.local(t, "echo", seen(&got), echoName)
	for as, identity := range map[string]string{"": "opener", "ann": "ann"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-as", as)
		if err := f.own(t, ctx, "Own", "default-1", ""); err != nil {
			t.Fatal(err)
		}
		if v := got.Get("conclave-identity"); !slices.Equal(v, []string{identity}) || first(got, "conclave-asked-by") != as {
			t.Errorf("as %q: the service sees %q, the resolver %q", as, v, first(got, "conclave-asked-by"))
		}
	}
}

// TestCaller reads what the router says in the way that recipes do, so that both
// mean the same names.
func TestCaller(t *testing.T) {
	callers := make(chan recipe.Caller, 1)
	f := newFront(t, router.Config{Sessions: resolver{}, Authorizer: authorizer(func(context.Context, *router.Method) (string, error) {
		return "ann", nil
	})})
	f.local(t, "echo", &echo{unary: func(ctx context.Context, _ string, in message) (message, error) {
		c, _ := recipe.CallerFrom(ctx)
		callers <- c
		return in, nil
	}}, echoName)
	if err := f.own(t, t.Context(), "Own", "team-1", "team"); err != nil {
		t.Fatal(err)
	}
	want := recipe.Caller{Session: "team-1", Lease: 0x1f, TTL: 15 * time.Second, Namespace: "team", Identity: "ann"}
	if got := <-callers; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestNoResolver(t *testing.T) {
	var got metadata.MD
	f := newFront(t, router.Config{})
	f.local(t, "echo", seen(&got), echoName)
	if err := f.own(t, t.Context(), "Own", "default-1", ""); err != nil {
		t.Fatal(err)
	}
	if first(got, "conclave-lease") != "" {
		t.Errorf("got %v", got)
	}
}

// FuzzSessionFields compares what is read from the wire with a whole decoding.
func FuzzSessionFields(f *testing.F) {
	file, err := buildFile("fuzztest")
	if err != nil {
		f.Fatal(err)
	}
	request := file.Messages().Get(0)
	whole, err := proto.Marshal(newMessage(request, "text").with(fieldSession, "s").with(fieldNamespace, "n").Message)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(append(slices.Clone(whole), whole...))
	f.Add([]byte{})
	f.Add([]byte("\xff"))
	f.Add(protowire.AppendVarint(protowire.AppendTag(nil, fieldSession, protowire.VarintType), 7)) // another type: an unknown field
	f.Add(protowire.AppendGroup(protowire.AppendTag(nil, 99, protowire.StartGroupType), 99, whole))
	read := router.SessionFields(request)
	f.Fuzz(func(t *testing.T, b []byte) {
		id, namespace, err := read(b)
		m := newMessage(request, "")
		if decoded := proto.Unmarshal(b, m.Message); decoded != nil {
			return // it may be refused here or by whoever decodes it
		}
		if err != nil {
			t.Fatalf("refused a message that can be decoded: %v", err)
		}
		if id != m.get(fieldSession) || namespace != m.get(fieldNamespace) {
			t.Errorf("read %q and %q, decoded %q and %q", id, namespace, m.get(fieldSession), m.get(fieldNamespace))
		}
	})
}

package router_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pipelinev1 "github.com/conclavehq/conclave/api/conclave/pipeline/v1"
	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/internal/pipewire"
	"github.com/conclavehq/conclave/internal/router"
)

// A wire is a pipeline as any client could speak it.
type wire struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[pipelinev1.CallsRequest, pipelinev1.CallsResponse]
	early  []*pipelinev1.Answer // read with others, and not asked for yet
}

// wire opens a pipeline on the front's connection.
func (f *front) wire(ctx context.Context, t *testing.T, opts ...grpc.CallOption) *wire {
	t.Helper()
	stream, err := pipelinev1.NewPipelineServiceClient(f.conn).Calls(ctx, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return &wire{t: t, stream: stream}
}

// newPiped returns a front that has pipelines, and serves the echo service.
func newPiped(t *testing.T, cfg router.Config, e *echo) *front {
	t.Helper()
	f := newFront(t, cfg)
	g := f.Registrar("host", router.AllowReserved())
	g.Pipeline()
	if err := g.Publish(); err != nil {
		t.Fatal(err)
	}
	f.local(t, "echo", e, echoName)
	return f
}

// to is a call of the echo service.
func to(t *testing.T, id uint64, method, text string) *pipelinev1.Call {
	t.Helper()
	b, err := proto.Marshal(newMessage(service(t, echoName).Methods().ByName("Do").Input(), text).Message)
	if err != nil {
		t.Fatal(err)
	}
	return &pipelinev1.Call{Id: id, Method: "/" + echoName + "/" + method, Request: b}
}

func (w *wire) send(calls ...*pipelinev1.Call) {
	w.t.Helper()
	if err := w.stream.Send(&pipelinev1.CallsRequest{Calls: calls}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) cancel(ids ...uint64) {
	w.t.Helper()
	if err := w.stream.Send(&pipelinev1.CallsRequest{Cancels: ids}); err != nil {
		w.t.Fatal(err)
	}
}

// next returns the next answer.
func (w *wire) next() *pipelinev1.Answer {
	w.t.Helper()
	for len(w.early) == 0 {
		got, err := w.stream.Recv()
		if err != nil {
			w.t.Fatal(err)
		}
		w.early = got.GetAnswers()
	}
	a := w.early[0]
	w.early = w.early[1:]
	return a
}

// refusal returns the error of the next answer, which is to be that of the call id.
func (w *wire) refusal(id uint64) error {
	w.t.Helper()
	a := w.next()
	if a.GetId() != id {
		w.t.Fatalf("got the answer of %d, want that of %d", a.GetId(), id)
	}
	return errorOf(w.t, a)
}

func errorOf(t *testing.T, a *pipelinev1.Answer) error {
	t.Helper()
	b, err := proto.Marshal(a.GetStatus())
	st := new(statuspb.Status)
	if err := errors.Join(err, proto.Unmarshal(b, st)); err != nil {
		t.Fatal(err)
	}
	return status.ErrorProto(st)
}

// end returns what the stream ended with, all answers read.
func (w *wire) end() error {
	for {
		if _, err := w.stream.Recv(); err != nil {
			return err
		}
	}
}

func text(t *testing.T, a *pipelinev1.Answer) string {
	t.Helper()
	m := newMessage(service(t, echoName).Methods().ByName("Do").Input(), "")
	if err := proto.Unmarshal(a.GetResponse(), m.Message); err != nil {
		t.Fatal(err)
	}
	return m.text()
}

func TestPipelineAnswersInAnyOrder(t *testing.T) {
	release := make(chan struct{})
	f := newPiped(t, router.Config{}, &echo{unary: func(ctx context.Context, _ string, in message) (message, error) {
		if in.text() == "slow" {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return in, nil
	}})
	w := f.wire(t.Context(), t)
	w.send(to(t, 7, "Do", "slow"), to(t, 0, "Do", "quick"))
	if a := w.next(); a.GetId() != 0 || text(t, a) != "quick" {
		t.Errorf("got %v first", a)
	}
	if err := w.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	close(release)
	if a := w.next(); a.GetId() != 7 || text(t, a) != "slow" {
		t.Errorf("got %v after the caller's last call", a)
	}
	if err := w.end(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}

// What is wrong with a call is the answer to that call, and the others go on.
func TestPipelineRefusesCalls(t *testing.T) {
	f := newPiped(t, router.Config{Limits: router.Limits{MessageBytes: 1000}}, &echo{})
	w := f.wire(t.Context(), t)
	garbage := to(t, 1, "Do", "")
	garbage.Request = []byte{0xff}
	many := to(t, 1, "Do", "")
	for range 2_000 {
		with(many, "k", "")
	}
	expired := to(t, 1, "Silent", "")
	expired.Timeout = 1
	for _, c := range []struct {
		what string
		call *pipelinev1.Call
		code codes.Code
		why  string
	}{
		{"a stream", to(t, 1, "Chat", ""), codes.InvalidArgument, "invalid_method"},
		{"a stream of answers", to(t, 1, "Watch", ""), codes.InvalidArgument, "invalid_method"},
		{"a pipeline", &pipelinev1.Call{Id: 1, Method: pipelinev1.PipelineService_Calls_FullMethodName}, codes.InvalidArgument, "invalid_method"},
		{"an unknown method", to(t, 1, "Nothing", ""), codes.Unimplemented, "unknown_method"},
		{"an unknown service", &pipelinev1.Call{Id: 1, Method: "/a.B/C"}, codes.Unimplemented, "unknown_method"},
		{"no method", &pipelinev1.Call{Id: 1}, codes.Unimplemented, "unknown_method"},
		{"garbage", garbage, codes.InvalidArgument, "invalid_request"},
		{"a long request", to(t, 1, "Do", strings.Repeat("x", 1000)), codes.ResourceExhausted, "limit_message"},
		{"a deadline", expired, codes.DeadlineExceeded, "deadline_exceeded"},
		{"bad metadata", with(to(t, 1, "Do", ""), "X Y", "v"), codes.InvalidArgument, "invalid_metadata"},
		{"a bad value", with(to(t, 1, "Do", ""), "x-key", "a\nb"), codes.InvalidArgument, "invalid_metadata"},
		{"much metadata", with(to(t, 1, "Do", ""), "x-key", strings.Repeat("v", 70_000)), codes.ResourceExhausted, "limit_metadata"},
		{"many pairs", many, codes.ResourceExhausted, "limit_metadata"},
	} {
		w.send(c.call)
		err := w.refusal(1)
		if want(t, err, c.code, c.why); t.Failed() {
			t.Fatalf("%s: %v", c.what, err)
		}
	}
	w.send(to(t, 1, "Do", "alive"))
	if got := text(t, w.next()); got != "alive" {
		t.Errorf("after the refusals got %q", got)
	}
}

func with(c *pipelinev1.Call, key, value string) *pipelinev1.Call {
	c.Metadata = append(c.Metadata, &pipelinev1.Metadata{Key: key, Value: []byte(value)})
	return c
}

// The name of a method that is none may be anything.
func TestPipelineUnknownMethodOfAnyBytes(t *testing.T) {
	f := newPiped(t, router.Config{}, &echo{})
	raw, err := f.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		pipelinev1.PipelineService_Calls_FullMethodName, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	message := pipewire.AppendCall(nil, "/a.\xff/\xfe", &pipewire.Call{ID: 1})
	if err := errors.Join(raw.SendMsg(&message), raw.RecvMsg(&message)); err != nil {
		t.Fatal(err)
	}
	got := new(pipelinev1.CallsResponse)
	if err := proto.Unmarshal(message, got); err != nil || len(got.GetAnswers()) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	want(t, errorOf(t, got.GetAnswers()[0]), codes.Unimplemented, "unknown_method")
}

// What is wrong with the stream ends it, and nothing else.
func TestPipelineEndsForHostilePeers(t *testing.T) {
	gone := make(chan struct{}, 1)
	f := newPiped(t, router.Config{}, &echo{unary: func(ctx context.Context, method string, in message) (message, error) {
		if method == "Silent" {
			<-ctx.Done()
			gone <- struct{}{}
		}
		return in, ctx.Err()
	}})
	w := f.wire(t.Context(), t)
	w.send(to(t, 5, "Silent", ""))
	w.send(to(t, 5, "Do", "")) // an id under way
	want(t, w.end(), codes.InvalidArgument, "invalid_id")
	<-gone // the call that was under way
	raw, err := f.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		pipelinev1.PipelineService_Calls_FullMethodName, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.SendMsg(&[]byte{0x0a, 0x05, 0xff}); err != nil {
		t.Fatal(err)
	}
	want(t, raw.RecvMsg(new([]byte)), codes.InvalidArgument, "invalid_request")
	if got, err := f.call(t, "Do", "alive"); err != nil || got != "alive" {
		t.Errorf("afterwards: got %q, %v", got, err)
	}
}

func TestPipelineCancels(t *testing.T) {
	entered := make(chan struct{}, 2)
	f := newPiped(t, router.Config{}, &echo{unary: func(ctx context.Context, _ string, _ message) (message, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return message{}, ctx.Err()
	}})
	w := f.wire(t.Context(), t)
	w.cancel(1, 2, 3) // none of them is under way
	w.send(to(t, 1, "Do", ""), to(t, 2, "Do", ""))
	<-entered
	<-entered
	w.cancel(1)
	want(t, w.refusal(1), codes.Canceled, "canceled")
	w.cancel(1, 2)
	want(t, w.refusal(2), codes.Canceled, "canceled")
}

// Who does not take answers is not served for ever: calls wait unread.
func TestPipelineWaitsForItsReader(t *testing.T) {
	var served atomic.Int64
	f := newPiped(t, router.Config{}, &echo{unary: func(_ context.Context, _ string, in message) (message, error) {
		served.Add(1)
		return in.with(fieldPadding, strings.Repeat("x", 100_000)), nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := f.wire(ctx, t, grpc.MaxCallRecvMsgSize(64<<20))
	const all = 2_000 // 200 MB of answers
	sent := make(chan error, 1)
	go func() {
		for i := range uint64(all) {
			c := with(to(t, i, "Do", "x"), "x-padding", strings.Repeat("x", 10_000)) // fills what the transport takes unread
			if err := w.stream.Send(&pipelinev1.CallsRequest{Calls: []*pipelinev1.Call{c}}); err != nil {
				sent <- err
				return
			}
		}
		sent <- w.stream.CloseSend()
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	before := int64(-1)
	for settled := 0; settled < 10; <-tick.C { // nothing moves any more
		if now := served.Load(); now == before {
			settled++
		} else {
			before, settled = now, 0
		}
	}
	if before > all/4 {
		t.Errorf("%d calls of %d were served while nobody read their answers", before, all)
	}
	for range all {
		w.next()
	}
	if err := w.end(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// asks notes what each call shows, and lets bearers of tokens in by their names.
type asks struct{}

func (asks) Authorize(ctx context.Context, m *router.Method) (string, error) {
	name := strings.TrimPrefix(first(metadata.MD{"authorization": metadata.ValueFromIncomingContext(ctx, "authorization")}, "authorization"), "Bearer ")
	if m.Permission > recipev1.Permission_PERMISSION_READ && m.Permission != recipev1.Permission_PERMISSION_PUBLIC && name == "" {
		return "", status.Error(codes.Unauthenticated, "unauthenticated: who calls?")
	}
	return name, nil
}

// Who opened the stream makes its calls, whatever they say.
func TestPipelineIdentity(t *testing.T) {
	var got metadata.MD
	f := newPiped(t, router.Config{Authorizer: asks{}}, seen(&got))
	hostile := func(id uint64, method string) *pipelinev1.Call {
		c := to(t, id, method, "")
		for _, key := range []string{"authorization", "conclave-identity", "conclave-session", "cookie", "proxy-authorization", "grpc-timeout", ":authority", "x-mine"} {
			with(c, key, "Bearer root")
		}
		return c
	}
	w := f.wire(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer ann", "x-stream", "of the stream"), t)
	w.send(hostile(1, "Do"))
	if err := w.refusal(1); err != nil {
		t.Fatal(err)
	}
	if id := got.Get("conclave-identity"); !slices.Equal(id, []string{"ann"}) {
		t.Errorf("the call is %v's", id)
	}
	for key, values := range got {
		if key != "conclave-identity" && key != "x-mine" {
			t.Errorf("the service sees %s: %v", key, values)
		}
	}
	w = f.wire(t.Context(), t) // nobody in particular
	w.send(hostile(1, "Read"))
	if err := w.refusal(1); err != nil || len(got.Get("conclave-identity")) != 0 {
		t.Errorf("a call of nobody's: %v, as %v", err, got.Get("conclave-identity"))
	}
	w.send(hostile(2, "Do"))
	want(t, w.refusal(2), codes.Unauthenticated, "")
}

// A host that stops takes no more calls and lets those end that are under way.
func TestPipelineDrains(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	f := newPiped(t, router.Config{}, &echo{unary: func(_ context.Context, _ string, in message) (message, error) {
		close(entered)
		<-release
		return in, nil
	}})
	w, idle := f.wire(t.Context(), t), f.wire(t.Context(), t)
	if _, err := idle.stream.Header(); err != nil {
		t.Fatal(err)
	}
	w.send(to(t, 1, "Do", "under way"))
	<-entered
	f.Drain()
	want(t, idle.end(), codes.Unavailable, "host_stopping")
	w.send(to(t, 2, "Do", "late"))
	want(t, w.refusal(2), codes.Unavailable, "host_stopping")
	close(release)
	if a := w.next(); a.GetId() != 1 || text(t, a) != "under way" {
		t.Errorf("got %v", a)
	}
	want(t, w.end(), codes.Unavailable, "host_stopping")
}

// Close ends the calls that are under way, and their callers are told why.
func TestPipelineIsClosed(t *testing.T) {
	entered := make(chan struct{})
	f := newPiped(t, router.Config{}, &echo{unary: func(ctx context.Context, _ string, _ message) (message, error) {
		close(entered)
		<-ctx.Done()
		return message{}, fmt.Errorf("acquire: %w", ctx.Err())
	}})
	w := f.wire(t.Context(), t)
	w.send(to(t, 1, "Do", ""))
	<-entered
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, w.refusal(1), codes.Unavailable, "host_stopping")
	want(t, w.end(), codes.Unavailable, "host_stopping")
}

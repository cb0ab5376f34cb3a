package host_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	pipelinev1 "github.com/conclavehq/conclave/api/conclave/pipeline/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/pipeline"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/lock"
)

// A bareStream is a pipeline without the client, which sends what nobody should.
type bareStream = grpc.BidiStreamingClient[pipelinev1.CallsRequest, pipelinev1.CallsResponse]

func overPipeline(tb testing.TB, conn grpc.ClientConnInterface) bareStream {
	tb.Helper()
	s, err := pipelinev1.NewPipelineServiceClient(conn).Calls(within(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// overPipeline calls a method; ok is false if gRPC cannot say what is wrong.
func (s *scene) overPipeline(t *testing.T, stream bareStream, b bad) (outcome, bool) {
	t.Helper()
	wire := []byte(s.ids.Replace(b.wire))
	switch {
	case b.text:
		return outcome{}, false
	case b.wire == "":
		wire = encode(t, b.method, s.ids.Replace(b.body))
	}
	err := bare(t, stream, &pipelinev1.Call{Id: 1, Method: "/conclave." + b.method, Request: wire})
	return outcome{code: status.Code(err), message: status.Convert(err).Message(), reason: recipe.Reason(err)}, true
}

// bare makes one call of a pipeline, and returns what its answer says.
func bare(t *testing.T, stream bareStream, c *pipelinev1.Call) error {
	t.Helper()
	if err := stream.Send(&pipelinev1.CallsRequest{Calls: []*pipelinev1.Call{c}}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || len(got.GetAnswers()) != 1 || got.GetAnswers()[0].GetId() != c.GetId() {
		t.Fatalf("got %v, %v", got, err)
	}
	raw := must[[]byte](t)(proto.Marshal(got.GetAnswers()[0].GetStatus()))
	st := new(statuspb.Status)
	if err := proto.Unmarshal(raw, st); err != nil {
		t.Fatal(err)
	}
	return status.ErrorProto(st)
}

// A lock is acquired and released through a pipeline, on every way into the host.
func TestPipelineThroughTheHost(t *testing.T) {
	t.Parallel()
	h := start(t, config(t), host.WithRecipe(lock.Recipe{}))
	p := pipeline.New(native(t, h))
	t.Cleanup(func() { _ = p.Close() })
	if err := p.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	sessions, locks := sessionv1.NewSessionServiceClient(p), lockv1.NewLockServiceClient(p)
	opened := must[*sessionv1.OpenResponse](t)(sessions.Open(within(t), &sessionv1.OpenRequest{}))
	held := must[*lockv1.AcquireResponse](t)(locks.Acquire(within(t), &lockv1.AcquireRequest{SessionId: opened.GetSessionId(), Name: "n"}))
	if why := must[*lockv1.WhyResponse](t)(locks.Why(within(t), &lockv1.WhyRequest{Name: "n"})); len(why.GetHolders()) != 1 || why.GetHolders()[0].GetToken() != held.GetToken() {
		t.Errorf("got %v", why)
	}
	must[*lockv1.ReleaseResponse](t)(locks.Release(within(t), &lockv1.ReleaseRequest{SessionId: opened.GetSessionId(), Name: "n", Token: held.GetToken()}))
	must[*sessionv1.CloseResponse](t)(sessions.Close(within(t), &sessionv1.CloseRequest{SessionId: opened.GetSessionId()}))
	for _, what := range []string{`conclave_calls_total{code="OK",method="Release",service="conclave.lock.v1.LockService"} 1`,
		`conclave_calls_in_flight{method="Calls",service="conclave.pipeline.v1.PipelineService"} 1`} {
		if got := get(t, web(t), h.API()+"/metrics"); !strings.Contains(got.body, what) {
			t.Errorf("/metrics does not have %s", what)
		}
	}
}

// A pipeline that comes by the HTTP side is the same.
func TestPipelineOverHTTP(t *testing.T) {
	t.Parallel()
	h := start(t, config(t))
	c := connect.NewClient[pipelinev1.CallsRequest, pipelinev1.CallsResponse](overH2C(t), h.API()+pipelinev1.PipelineService_Calls_FullMethodName)
	stream := c.CallBidiStream(within(t))
	for id, method := range []string{sessionv1.SessionService_Open_FullMethodName, lockv1.LockService_List_FullMethodName, "/nobody.v1.Nobody/Serves"} {
		if err := stream.Send(&pipelinev1.CallsRequest{Calls: []*pipelinev1.Call{{Id: uint64(id), Method: method}}}); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Receive()
		if err != nil || len(got.GetAnswers()) != 1 || got.GetAnswers()[0].GetId() != uint64(id) {
			t.Fatalf("%s: got %v, %v", method, got, err)
		}
		if code := codes.Code(got.GetAnswers()[0].GetStatus().GetCode()); code != []codes.Code{codes.OK, codes.Internal, codes.Unimplemented}[id] {
			t.Errorf("%s: got %v", method, got)
		}
	}
	if err := stream.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if err := stream.CloseResponse(); err != nil {
		t.Error(err)
	}
	asked := post(t, web(t), h.API(), "pipeline.v1.PipelineService/Calls", "{}")
	if asked.status != http.StatusUnsupportedMediaType {
		t.Errorf("as JSON it is answered %+v", asked)
	}
	if doc := get(t, web(t), h.API()+"/openapi.json"); doc.status != http.StatusOK || strings.Contains(doc.body, "/conclave.pipeline.v1.PipelineService/Calls") {
		t.Errorf("the OpenAPI document offers it: %d", doc.status)
	}
}

// A caller's calls are his who opened the pipeline, and he may in it what he may
// without it.
func TestPipelineAsksWhoCalls(t *testing.T) {
	t.Parallel()
	sum := func(token string) string {
		s := sha256.Sum256([]byte(token))
		return hex.EncodeToString(s[:])
	}
	file := filepath.Join(t.TempDir(), "callers.yaml")
	text := "callers:\n- {name: ci, token_sha256: " + sum("secret") + ", may: write}\n- {name: ops, token_sha256: " + sum("other") + ", may: admin}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Auth.Callers = file
	h := start(t, cfg, host.WithRecipe(keeper{}))
	open := &pipelinev1.Call{Id: 1, Method: sessionv1.SessionService_Open_FullMethodName}
	force := &pipelinev1.Call{Id: 1, Method: lockv1.LockService_ForceRelease_FullMethodName}
	asOps := proto.CloneOf(force)
	asOps.Metadata = []*pipelinev1.Metadata{{Key: "authorization", Value: []byte("Bearer other")}, {Key: "conclave-identity", Value: []byte("ops")}}
	for _, c := range []struct {
		what, token string
		call        *pipelinev1.Call
		code        codes.Code
		reason      string
	}{
		{"nobody", "", open, codes.Unauthenticated, "unauthenticated"},
		{"a guess", "guess", open, codes.Unauthenticated, "unauthenticated"},
		{"who may", "secret", open, codes.OK, ""},
		{"who may not", "secret", force, codes.PermissionDenied, "not_permitted"},
		{"who may not, and says that he is somebody else", "secret", asOps, codes.PermissionDenied, "not_permitted"},
		{"who may more", "other", force, codes.Unimplemented, ""},
	} {
		ctx, cancel := context.WithCancel(within(t))
		if c.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
		}
		stream := must[bareStream](t)(pipelinev1.NewPipelineServiceClient(native(t, h)).Calls(ctx))
		if err := bare(t, stream, c.call); status.Code(err) != c.code || recipe.Reason(err) != c.reason {
			t.Errorf("%s: got %v, want %v", c.what, err, c.code)
		}
		cancel()
	}
}

// A host with pipelines stops as soon as one without: what is idle does not keep it,
// and what waits is told.
func TestHostStopsWithPipelines(t *testing.T) {
	t.Parallel()
	h := start(t, config(t))
	idle, busy := pipeline.New(native(t, h)), pipeline.New(native(t, h))
	for _, p := range []*pipeline.Conn{idle, busy} {
		t.Cleanup(func() { _ = p.Close() })
		if err := p.Ready(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	opened := must[*sessionv1.OpenResponse](t)(sessionv1.NewSessionServiceClient(busy).Open(within(t), &sessionv1.OpenRequest{}))
	done := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := lockv1.NewLockServiceClient(busy).Acquire(ctx, &lockv1.AcquireRequest{SessionId: opened.GetSessionId(), Name: "n"})
		done <- err
	}()
	for !strings.Contains(get(t, web(t), h.API()+"/metrics").body, `conclave_calls_in_flight{method="Acquire",service="conclave.lock.v1.LockService"} 1`) {
		if ctx.Err() != nil {
			t.Fatal("the call did not arrive")
		}
	}
	if err := h.Stop(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; status.Code(err) != codes.Unavailable || recipe.Reason(err) != "host_stopping" {
		t.Errorf("the call that waited: %v", err)
	}
}

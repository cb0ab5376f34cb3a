package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/conclavehq/conclave/core/host/edge"
)

// TestLongAnswer has answers that are longer than requests may be, and one that
// is longer than an answer may be.
func TestLongAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{edge: edge.Options{MaxRequest: 100, MaxMessage: 5000}})
	e := newEcho(t)
	for size, x := range map[int]exchange{
		3000: {status: 200, has: []string{strings.Repeat("x", 3000)}},
		6000: {status: 429, code: "resource_exhausted", message: "limit_message: the answer has 6003 bytes, the limit is 5000"},
	} {
		long := start(t, serverOptions{edge: edge.Options{MaxRequest: 100, MaxMessage: 5000, Handler: answer(e, size)}})
		x.header, x.body = typed("application/json"), `{}`
		for _, over := range []transport{http1, http2} {
			x.run(t, long.client(t, over), long.url())
			x.path = countPath
			x.run(t, long.client(t, over), long.url())
			x.path = ""
		}
	}
	x := exchange{header: typed("application/json"), body: `{"name":"` + strings.Repeat("x", 100) + `"}`, status: 429, code: "resource_exhausted"}
	x.run(t, s.client(t, http1), s.url())
}

// answer returns a handler that answers with a name of so many bytes.
func answer(e *echo, size int) grpc.StreamHandler {
	return func(_ any, s grpc.ServerStream) error {
		if err := s.RecvMsg(e.message()); err != nil {
			return err
		}
		return s.SendMsg(e.named(strings.Repeat("x", size), 0))
	}
}

// TestRefusedBeforeSent names a length that is too long and waits for leave to
// send it.
func TestRefusedBeforeSent(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n", echoPath)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%s, want 429 and not 100", answer.Status)
	}
}

// TestSentAnyway sends all of a request that is too long before it reads, as
// simple clients do, and must find the answer.
func TestSentAnyway(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := strings.Repeat("x", 3<<20)
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", echoPath, len(body), body); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusTooManyRequests {
		t.Error(answer.Status)
	}
}

// TestCurl asks as a shell script does.
func TestCurl(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("skipped: this machine has no curl")
	}
	s := start(t, serverOptions{})
	for _, flag := range []string{"--http1.1", "--http2-prior-knowledge"} {
		out, err := exec.CommandContext(within(t), curl, flag, "-sS", "-H", "Content-Type: application/json", "-d", `{"count":2}`, s.url()+countPath).CombinedOutput()
		if err != nil || strings.Count(string(out), "\n") != 2 || !strings.HasPrefix(string(out), `{"name":"tick","count":"0",`) {
			t.Errorf("%s: %q, %v", flag, out, err)
		}
		out, err = exec.CommandContext(within(t), curl, flag, "-sS", "-d", `{"name":"a"}`, s.url()+echoPath).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "set Content-Type: application/json") {
			t.Errorf("%s without a type: %q, %v", flag, out, err)
		}
		out, err = exec.CommandContext(within(t), curl, flag, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json", "--data-binary", "@-", s.url()+echoPath).CombinedOutput()
		if err != nil || string(out) != "200" {
			t.Errorf("%s with nothing: %q, %v", flag, out, err)
		}
	}
}

// TestSet refuses what it cannot serve, and leaves what it serves alone.
func TestSet(t *testing.T) {
	t.Parallel()
	if _, err := edge.New(edge.Options{}); err == nil {
		t.Error("an edge without a handler was made")
	}
	s := start(t, serverOptions{})
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(echoFile), &file); err != nil {
		t.Fatal(err)
	}
	file.Package, file.Name = new(""), new("ui.proto")
	file.MessageType, file.Dependency = nil, nil
	file.Service = []*descriptorpb.ServiceDescriptorProto{{Name: new("ui")}}
	fd, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.edge.Set(fd.Services().Get(0)); err == nil || !strings.Contains(err.Error(), "no package") {
		t.Errorf("a service without a package: %v", err)
	}
	s.edge.Drop("no.such.Service")
	exchange{header: typed("application/json"), body: `{}`, status: 200}.run(t, s.client(t, http1), s.url())
}

// TestNext serves what no service has.
func TestNext(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{edge: edge.Options{Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "next "+r.URL.Path)
	})}})
	c := s.client(t, http1)
	for path, want := range map[string]string{"/": "next /", "/openapi.json": "next /openapi.json", "/ui/": "next /ui/", "/ui/app.js": "next /ui/app.js", "/a/b/c.d": "next /a/b/c.d"} {
		exchange{method: http.MethodGet, path: path, status: 200, is: want}.run(t, c, s.url())
	}
	exchange{path: "/a.B/C", header: typed("application/json"), status: 404, code: "unimplemented"}.run(t, c, s.url())
}

package edge_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
	body := strings.Repeat("x", 7<<20)
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

// TestAnswerBeforeTheEnd keeps a request open on HTTP/1.1, whose handler has
// failed, and must have the answer all the same.
func TestAnswerBeforeTheEnd(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	message := "\x00\x00\x00\x00\x0a{\"fail\":9}"
	if _, err := fmt.Fprintf(c, "POST %sSum HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n",
		service, len(message), message); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || !strings.Contains(string(body), `"code":"failed_precondition"`) || !answer.Close {
		t.Errorf("%q, %v, closes: %v", body, err, answer.Close)
	}
}

// TestHeaderBeforeTheEnd has a handler that sends its header between two messages
// on HTTP/1.1, and must lose none of them.
func TestHeaderBeforeTheEnd(t *testing.T) {
	t.Parallel()
	e := newEcho(t)
	s := start(t, serverOptions{edge: edge.Options{Handler: func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(e.message()); err != nil {
			return err
		}
		if err := stream.SendHeader(nil); err != nil {
			return err
		}
		return e.sum(stream)
	}}})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	send := func(text string) {
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	send("POST " + service + "Sum HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"7\r\n\x00\x00\x00\x00\x02{}\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	send("10\r\n\x00\x00\x00\x00\x0b{\"count\":7}\r\n0\r\n\r\n")
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil || !strings.Contains(string(body), `"count":"7"`) {
		t.Errorf("%q, %v", body, err)
	}
}

// TestBadMessageIsNoEnd has a handler that would take the end of its caller's
// stream for a reason to act.
func TestBadMessageIsNoEnd(t *testing.T) {
	t.Parallel()
	e := newEcho(t)
	ends := make(chan error, 1)
	s := start(t, serverOptions{edge: edge.Options{Handler: func(_ any, stream grpc.ServerStream) error {
		err := stream.RecvMsg(e.message())
		for err == nil {
			err = stream.RecvMsg(e.message())
		}
		ends <- err
		return err
	}}})
	for _, body := range []string{"\x00\x00\x00\x00\x02{}\x00\x00\x00\x00\x05wrong", "\x00\x00\x00\x00\x02{}\x00\x00\x20\x00\x00", "\x00\x00\x00\x00\x02{}\x00\x00\x00\x00\x05wr", "\x00\x00\x00\x00\x02{}"} {
		want := map[int]codes.Code{17: codes.InvalidArgument, 12: codes.ResourceExhausted, 14: codes.Canceled}[len(body)]
		exchange{path: service + "Sum", header: typed("application/connect+json"), body: body, status: 200}.run(t, s.client(t, http1), s.url())
		if err := <-ends; want == 0 && !errors.Is(err, io.EOF) || want != 0 && status.Code(err) != want {
			t.Errorf("after %q the handler has %v, want %v", body, err, want)
		}
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

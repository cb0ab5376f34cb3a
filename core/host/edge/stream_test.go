package edge_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/host/edge"
)

// post sends JSON and returns the answer as soon as its header is there.
func post(ctx context.Context, tb testing.TB, c *http.Client, url, body string) *http.Response {
	tb.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	return answer
}

// TestCancel goes away while the handler waits, in every form of a stream.
func TestCancel(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{})
	for _, over := range []transport{http1, http2} {
		for _, contentType := range []string{"application/json", "application/connect+json", "application/grpc-web+json"} {
			t.Run(fmt.Sprintf("%s/%s", over, contentType), func(t *testing.T) {
				ctx, cancel := context.WithCancel(within(t))
				defer cancel()
				body := "{}"
				if contentType != "application/json" {
					body = "\x00\x00\x00\x00\x02{}"
				}
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url()+service+"Wait", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", contentType)
				// The header comes before any message, because the handler sent it.
				answer, err := s.client(t, over).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				if got := answer.Header.Get("X-Waiting"); got != "yes" {
					t.Errorf("header is %q", got)
				}
				<-s.waiting
				cancel()
				select {
				case err := <-s.left:
					if !errors.Is(err, context.Canceled) {
						t.Errorf("the handler's context ended with %v", err)
					}
				case <-within(t).Done():
					t.Fatal("the handler did not learn that the caller went away")
				}
			})
		}
	}
}

// TestLinesAreLive reads each line before the handler sends the next.
func TestLinesAreLive(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	e := newEcho(t)
	s := start(t, serverOptions{edge: edge.Options{Handler: func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(e.message()); err != nil {
			return err
		}
		for i := range int64(3) {
			<-next
			if err := stream.SendMsg(e.named("live", i)); err != nil {
				return err
			}
		}
		return nil
	}}})
	for _, over := range []transport{http1, http2} {
		go func() { next <- struct{}{} }()
		answer := post(within(t), t, s.client(t, over), s.url()+countPath, `{}`)
		lines := bufio.NewScanner(answer.Body)
		for i := range 3 {
			if !lines.Scan() {
				t.Fatalf("line %d: %v", i, lines.Err())
			}
			var m struct{ Count string }
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil || m.Count != fmt.Sprint(i) {
				t.Errorf("line %d is %s, %v", i, lines.Bytes(), err)
			}
			if i < 2 {
				next <- struct{}{}
			}
		}
		if lines.Scan() {
			t.Errorf("a line too many: %s", lines.Bytes())
		}
		_ = answer.Body.Close()
	}
}

// TestSlowBody sends half a request and waits.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{edge: edge.Options{ReadTimeout: 50 * time.Millisecond}})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", echoPath)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d, want 408", answer.StatusCode)
	}
	body, err := io.ReadAll(answer.Body) // and the connection ends
	if err != nil || !strings.Contains(string(body), "request_timeout: ") {
		t.Errorf("body is %q, %v", body, err)
	}
}

// TestEndsBeforeItsCaller has a handler that fails while the caller still sends,
// and a read that still waits, as a router has.
func TestEndsBeforeItsCaller(t *testing.T) {
	t.Parallel()
	e := newEcho(t)
	var reads sync.WaitGroup
	s := start(t, serverOptions{edge: edge.Options{Handler: func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(e.message()); err != nil {
			return err
		}
		reads.Go(func() {
			if err := stream.RecvMsg(e.message()); err == nil {
				t.Error("a read returned a message that nobody sent")
			}
		})
		return status.Error(codes.Aborted, "enough")
	}}})
	for _, over := range []transport{http1, http2} {
		for _, way := range ways() {
			if way.grpc && over == http1 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", over, way.name), func(t *testing.T) {
				c := caller{server: s, t: t, clients: s.client(t, over), way: way}
				stream := c.method("Sum").CallClientStream(within(t))
				if err := stream.Send(c.named("n", 1)); err != nil {
					t.Fatal(err)
				}
				reads.Wait() // the handler's read, without which net/http would wait for the caller
				_, err := stream.CloseAndReceive()
				if connect.CodeOf(err) != connect.CodeAborted {
					t.Errorf("error is %v, want aborted", err)
				}
			})
		}
	}
}

// TestBadMessageWhileAnswering sends what is no JSON into a stream whose handler
// writes all the time.
func TestBadMessageWhileAnswering(t *testing.T) {
	t.Parallel()
	e := newEcho(t)
	s := start(t, serverOptions{edge: edge.Options{Handler: func(_ any, stream grpc.ServerStream) error {
		ended := make(chan error, 1)
		go func() {
			for {
				if err := stream.RecvMsg(e.message()); err != nil {
					ended <- err
					return
				}
			}
		}()
		for i := int64(0); ; i++ {
			select {
			case err := <-ended:
				return err
			default:
				if err := stream.SendMsg(e.named("tick", i)); err != nil {
					return errors.Join(err, <-ended)
				}
			}
		}
	}}})
	c := s.client(t, http2)
	for range 50 {
		r, err := http.NewRequestWithContext(within(t), http.MethodPost, s.url()+service+"Chat", strings.NewReader("\x00\x00\x00\x00\x02{}\x00\x00\x00\x00\x05wrong"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/connect+json")
		answer, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(body), `{"error":{"code":"invalid_argument","message":"invalid_request: `) {
			t.Fatalf("the answer does not end with the error: …%q", body[max(0, len(body)-300):])
		}
	}
}

// TestDrain ends a server with a call of each kind under way: unary ones finish,
// streams end with a status.
func TestDrain(t *testing.T) {
	t.Parallel()
	stopping := errors.New("the host is stopping")
	drain, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	e := newEcho(t)
	arrived, proceed := make(chan struct{}), make(chan struct{})
	handler := func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(e.message()); err != nil {
			return err
		}
		method, _ := grpc.MethodFromServerStream(stream)
		if method == echoPath {
			arrived <- struct{}{}
			<-proceed
			return stream.SendMsg(e.named("late", 1))
		}
		if err := stream.SendMsg(e.named("first", 0)); err != nil {
			return err
		}
		arrived <- struct{}{}
		<-drain.Done()
		return status.Error(codes.Unavailable, context.Cause(drain).Error())
	}
	s := start(t, serverOptions{edge: edge.Options{Handler: handler}})
	var callers sync.WaitGroup
	call := func(f func()) { callers.Go(f); <-arrived }
	conn := s.dial(t)
	call(func() {
		if err := conn.Invoke(within(t), echoPath, e.named("a", 1), e.message()); err != nil {
			t.Errorf("native unary: %v", err)
		}
	})
	call(func() {
		stream, err := conn.NewStream(within(t), &grpc.StreamDesc{ServerStreams: true}, countPath)
		if err != nil {
			t.Error(err)
			return
		}
		_ = stream.SendMsg(e.named("a", 1))
		_ = stream.CloseSend()
		for err == nil {
			err = stream.RecvMsg(e.message())
		}
		if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != stopping.Error() {
			t.Errorf("native stream: %v", err)
		}
	})
	for _, over := range []transport{http1, http2} {
		c := s.client(t, over)
		call(func() {
			answer := post(within(t), t, c, s.url()+echoPath, `{}`)
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Errorf("unary over %s: %s", over, answer.Status)
			}
		})
		call(func() {
			answer := post(within(t), t, c, s.url()+countPath, `{}`)
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || !strings.HasSuffix(string(body), `{"error":{"code":"unavailable","message":"the host is stopping"}}`+"\n") {
				t.Errorf("stream over %s: %q, %v", over, body, err)
			}
		})
	}
	_ = s.split.Close()
	if c, err := net.Dial("tcp", s.addr); err == nil {
		_ = c.Close()
		t.Error("a new connection was accepted after the listener was closed")
	}
	var servers sync.WaitGroup
	servers.Go(s.grpc.GracefulStop)
	servers.Go(func() {
		if err := s.http.Shutdown(within(t)); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	close(proceed)
	stop(stopping)
	callers.Wait()
	servers.Wait()
}

// TestSwapUnderLoad replaces the service, and others beside it, while it is
// called.
func TestSwapUnderLoad(t *testing.T) {
	t.Parallel()
	s := start(t, serverOptions{})
	ctx, cancel := context.WithCancel(within(t))
	var swaps int
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for ctx.Err() == nil {
			if err := s.edge.Set(echoService(t)); err != nil {
				t.Errorf("set: %v", err)
				return
			}
			swaps++
		}
	})
	var callers sync.WaitGroup
	for range 8 {
		c := s.client(t, http1)
		callers.Go(func() {
			for i := range 100 {
				answer := post(within(t), t, c, s.url()+echoPath, fmt.Sprintf(`{"count":%d}`, i))
				body, err := io.ReadAll(answer.Body)
				_ = answer.Body.Close()
				if err != nil || !strings.Contains(string(body), fmt.Sprintf(`"count":"%d"`, i)) {
					t.Errorf("answer %d is %s, %v", i, body, err)
					return
				}
			}
		})
	}
	callers.Wait()
	cancel()
	swapping.Wait()
	if swaps < 2 {
		t.Errorf("the service was replaced %d times, which shows nothing", swaps)
	}
	s.edge.Drop(s.sd.FullName())
	answer := post(within(t), t, s.client(t, http1), s.url()+echoPath, `{}`)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("after the drop: %s", answer.Status)
	}
}

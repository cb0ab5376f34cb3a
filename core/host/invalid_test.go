package host_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/lock"
)

// A bad is a request that must be refused, in JSON, and how.
type bad struct {
	what   string
	method string // behind "conclave."
	body   string // @A, @B, @ENDED and @TOKEN stand for what the scene has
	wire   string // the message as gRPC sends it, if JSON cannot say it
	text   bool   // what is wrong is the JSON, so that gRPC cannot say it
	code   codes.Code
	says   string // how the message begins: the reason, and the field that it is about
	limit  string // what else it says
}

// An outcome is how a call was refused.
type outcome struct {
	status  int // of HTTP; 0 over gRPC
	code    codes.Code
	message string
	reason  string // as the details say it
}

// scene is a host with the lock recipe, and with sessions: A owns "held" with
// TOKEN, B owns "other's", and ENDED has ended. X lives in another namespace.
type scene struct {
	h      *host.Host
	etcd   *clientv3.Client
	ids    *strings.Replacer
	leases int
}

func newScene(t *testing.T, beside ...host.Option) *scene {
	t.Helper()
	cfg := config(t)
	// The history would be written whenever its recorder gets to it.
	cfg.Recipes = map[string]host.RecipeConfig{"lock": {Config: json.RawMessage(`{"historyOff":true}`)}}
	s := &scene{h: start(t, cfg, append(beside, host.WithRecipe(lock.Recipe{}))...)}
	s.etcd = dial(t, s.h)
	c := web(t)
	ok := func(method, body string) answer {
		t.Helper()
		a := post(t, c, s.h.API(), method, body)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %+v", method, a)
		}
		return a
	}
	open := func(namespace string) string {
		return ok("session.v1.SessionService/Open", fmt.Sprintf(`{"ttl":"600s","namespace":%q}`, namespace)).SessionID
	}
	a, b, x, ended := open(""), open("default"), open("elsewhere"), open("")
	ok("session.v1.SessionService/Close", fmt.Sprintf(`{"sessionId":%q}`, ended))
	token := ok("lock.v1.LockService/Acquire", fmt.Sprintf(`{"sessionId":%q,"name":"held"}`, a)).Token
	others := ok("lock.v1.LockService/Acquire", fmt.Sprintf(`{"sessionId":%q,"name":"other's"}`, b)).Token
	s.ids = strings.NewReplacer("@A", a, "@B", b, "@X", x, "@ENDED", ended, "@TOKEN", token, "@OTHERS", others)
	// The recipe opens a session of its own in the background.
	for ctx := within(t); s.leases != 4; {
		got, err := s.etcd.Leases(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.leases = len(got.Leases)
	}
	return s
}

// trace is all that a write would leave: the revision and the leases.
func (s *scene) trace(t *testing.T) string {
	t.Helper()
	got, err := s.etcd.Get(within(t), "/", clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	leases, err := s.etcd.Leases(within(t))
	if err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for _, l := range leases.Leases {
		ids = append(ids, int64(l.ID))
	}
	slices.Sort(ids)
	return fmt.Sprintf("revision %d, leases %x", got.Header.Revision, ids)
}

// A way is one in which calls reach the host.
type way struct {
	name string
	call func(t *testing.T, b bad) (got outcome, ok bool)
}

func (s *scene) ways(t *testing.T) []way {
	t.Helper()
	conn := native(t, s.h)
	piped := overPipeline(t, conn)
	return []way{
		{"HTTP/1.1", overHTTP(s, web(t), 1)},
		{"h2c", overHTTP(s, overH2C(t), 2)},
		{"gRPC", func(t *testing.T, b bad) (outcome, bool) { t.Helper(); return s.overGRPC(t, conn, b) }},
		{"a pipeline", func(t *testing.T, b bad) (outcome, bool) { t.Helper(); return s.overPipeline(t, piped, b) }},
	}
}

// overH2C returns an HTTP client that speaks HTTP/2 without TLS.
func overH2C(tb testing.TB) *http.Client {
	only := new(http.Protocols)
	only.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: only}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func overHTTP(s *scene, c *http.Client, major int) func(*testing.T, bad) (outcome, bool) {
	return func(t *testing.T, b bad) (outcome, bool) {
		t.Helper()
		req, err := http.NewRequestWithContext(within(t), http.MethodPost, s.h.API()+"/conclave."+b.method, strings.NewReader(s.ids.Replace(b.body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		return refusal(t, c, req, major), true
	}
}

// refusal sends a request and reads the error that answers it.
func refusal(t *testing.T, c *http.Client, req *http.Request, major int) outcome {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.ProtoMajor != major {
		t.Errorf("answered over %s", resp.Proto)
	}
	var body struct {
		Code    codes.Code `json:"code"`
		Message string     `json:"message"`
		Details []struct {
			Type  string `json:"type"`
			Debug struct {
				Reason string `json:"reason"`
				Domain string `json:"domain"`
			} `json:"debug"`
		} `json:"details"`
	}
	var raw bytes.Buffer
	if _, err := raw.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	// codes.Code reads its names in upper case; JSON has them in lower.
	text := raw.Bytes()
	if i := bytes.Index(text, []byte(`"code":"`)); i >= 0 {
		i += len(`"code":"`)
		if n := bytes.IndexByte(text[i:], '"'); n >= 0 {
			copy(text[i:i+n], bytes.ToUpper(text[i:i+n]))
		}
	}
	if err := json.Unmarshal(text, &body); err != nil {
		t.Errorf("HTTP %d %q is no error in JSON: %v", resp.StatusCode, raw.String(), err)
	}
	got := outcome{status: resp.StatusCode, code: body.Code, message: body.Message}
	for _, d := range body.Details {
		if d.Type == "google.rpc.ErrorInfo" && d.Debug.Domain == recipe.Domain {
			got.reason = d.Debug.Reason
		}
	}
	return got
}

// asIs is a codec for messages that are encoded already.
type asIs struct{}

func (asIs) Name() string { return "proto" }

func (asIs) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("no bytes")
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (asIs) Unmarshal(mem.BufferSlice, any) error { return nil }

// overGRPC calls a method; ok is false if gRPC cannot say what is wrong.
func (s *scene) overGRPC(t *testing.T, conn *grpc.ClientConn, b bad) (outcome, bool) {
	t.Helper()
	wire := []byte(s.ids.Replace(b.wire))
	switch {
	case b.text:
		return outcome{}, false
	case b.wire == "":
		wire = encode(t, b.method, s.ids.Replace(b.body))
	}
	err := conn.Invoke(within(t), "/conclave."+b.method, wire, new(any), grpc.ForceCodecV2(asIs{}))
	return outcome{code: status.Code(err), message: status.Convert(err).Message(), reason: recipe.Reason(err)}, true
}

// encode turns JSON into the method's message.
func encode(t *testing.T, method, body string) []byte {
	t.Helper()
	name := protoreflect.FullName("conclave." + strings.ReplaceAll(method, "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(d.(protoreflect.MethodDescriptor).Input())
	if err := protojson.Unmarshal([]byte(body), m); err != nil {
		t.Fatalf("%v: say so in the table if gRPC cannot say it", err)
	}
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{}, wire...) // grpc-go calls an empty message nil
}

// httpStatus is Connect's, for the codes of the surface.
func httpStatus(c codes.Code) int {
	switch c {
	case codes.InvalidArgument, codes.FailedPrecondition:
		return http.StatusBadRequest
	case codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.NotFound:
		return http.StatusNotFound
	default:
		return 0
	}
}

// Bad input is refused alike over every transport, with the code and the reason
// of the surface and a message that names the field and its limit, and nothing
// is written.
func TestBadInputIsRefusedAndWritesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	ways := s.ways(t)
	before := s.trace(t)
	for _, b := range slices.Concat(badNames(), badAcquires(), badSessions(), badTokens(), badIDs(), badJSON(), badLooks()) {
		for _, w := range ways {
			got, ok := w.call(t, b)
			if !ok {
				continue
			}
			if got.code != b.code || !strings.HasPrefix(got.message, b.says) || !strings.Contains(got.message, s.ids.Replace(b.limit)) {
				t.Errorf("%s over %s: %+v, want %v %q … %q", b.what, w.name, got, b.code, b.says, b.limit)
			}
			if got.status != 0 && got.status != httpStatus(b.code) {
				t.Errorf("%s over %s: HTTP %d", b.what, w.name, got.status)
			}
			if !strings.HasPrefix(got.message, got.reason+": ") || got.reason == "" {
				t.Errorf("%s over %s: the details say %q, the message %q", b.what, w.name, got.reason, got.message)
			}
			if strings.ContainsFunc(got.message, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%s over %s: a control character in %q", b.what, w.name, got.message)
			}
			if after := s.trace(t); after != before {
				t.Fatalf("%s over %s wrote: %s, before %s", b.what, w.name, after, before)
			}
		}
	}
}

// A shape is an HTTP request that is no call in JSON, and the answer.
type shape struct {
	what        string
	verb, path  string
	contentType string
	body        string
	status      int
	code        codes.Code
	says        string
}

func shapes() []shape {
	const call = "/conclave.lock.v1.LockService/TryAcquire"
	body := `{"sessionId":"@A","name":"a"}`
	return []shape{
		{"a form", "POST", call, "application/x-www-form-urlencoded", body, 415, codes.InvalidArgument, "invalid_content_type: "},
		{"plain text", "POST", call, "text/plain", body, 415, codes.InvalidArgument, "invalid_content_type: "},
		{"several parts", "POST", call, "multipart/form-data; boundary=x", body, 415, codes.InvalidArgument, "invalid_content_type: "},
		{"no content type", "POST", call, "", body, 415, codes.InvalidArgument, "invalid_content_type: "},
		{"another charset", "POST", call, "application/json; charset=iso-8859-1", body, 415, codes.InvalidArgument, "invalid_content_type: "},
		{"a content type that is none", "POST", call, "json", body, 415, codes.InvalidArgument, "invalid_content_type: "},
		{"a write by GET", "GET", call, "", "", 405, codes.Unimplemented, "method_not_allowed: "},
		{"a write by GET, with its message", "GET", call + "?connect=v1&encoding=json&message=" + url.QueryEscape(body), "", "", 405, codes.Unimplemented, "method_not_allowed: "},
		{"a write by PUT", "PUT", call, "application/json", body, 405, codes.Unimplemented, "method_not_allowed: "},
		{"a write by DELETE", "DELETE", call, "application/json", body, 405, codes.Unimplemented, "method_not_allowed: "},
		{"a session by GET", "GET", "/conclave.session.v1.SessionService/Open?message=%7B%7D", "", "", 405, codes.Unimplemented, "method_not_allowed: "},
		{"an unknown method", "POST", "/conclave.lock.v1.LockService/Steal", "application/json", body, 404, codes.Unimplemented, "unknown_method: "},
		{"an unknown service", "POST", "/conclave.lock.v2.LockService/Acquire", "application/json", body, 404, codes.Unimplemented, "unknown_service: "},
		{"a method in lower case", "POST", "/conclave.lock.v1.LockService/tryAcquire", "application/json", body, 404, codes.Unimplemented, "unknown_method: "},
	}
}

// What is no call in JSON is refused in JSON too, and writes nothing.
func TestBadRequestsAreRefusedAndWriteNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	before := s.trace(t)
	one, two := web(t), overH2C(t)
	for _, r := range shapes() {
		for major, c := range map[int]*http.Client{1: one, 2: two} {
			req, err := http.NewRequestWithContext(within(t), r.verb, s.h.API()+r.path, strings.NewReader(s.ids.Replace(r.body)))
			if err != nil {
				t.Fatal(err)
			}
			if r.contentType != "" {
				req.Header.Set("Content-Type", r.contentType)
			}
			got := refusal(t, c, req, major)
			if got.status != r.status || got.code != r.code || !strings.HasPrefix(got.message, r.says) || got.reason+": " != r.says {
				t.Errorf("%s over HTTP/%d: %+v, want %d %v %q", r.what, major, got, r.status, r.code, r.says)
			}
			if after := s.trace(t); after != before {
				t.Fatalf("%s over HTTP/%d wrote: %s, before %s", r.what, major, after, before)
			}
		}
	}
	conn := native(t, s.h)
	for _, method := range []string{"/conclave.lock.v1.LockService/Steal", "/conclave.lock.v2.LockService/Acquire", "/nowhere"} {
		err := conn.Invoke(within(t), method, []byte{}, new(any), grpc.ForceCodecV2(asIs{}))
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s over gRPC: %v", method, err)
		}
	}
}

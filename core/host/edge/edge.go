// Package edge serves gRPC services to everything that speaks HTTP.
//
// An [Edge] takes the descriptors of services that come and go while it runs,
// and answers POST /<package.Service>/<Method> in every form that a client may
// choose by its content type: JSON, Connect, gRPC-Web, and gRPC itself. It knows
// no service's code: each call enters a [grpc.StreamHandler], as if it had come
// through gRPC's own server.
//
// # JSON
//
// The only header that a request needs is Content-Type: application/json; a body
// that is empty counts as {}. A field that the message does not have is refused
// and named. A method that streams its answers sends one JSON object a line, of
// type application/x-ndjson. A unary method without side effects also answers
// GET, with its request in the query parameter message.
//
// An error is {"code":…,"message":…,"details":[…]}. Its message begins with the
// reason, which the details have too, as google.rpc.ErrorInfo. A stream that
// fails before its first message has the HTTP status of the error; after that
// the last line is {"error":{…}}.
//
// # Failure
//
// Requests are bounded in bytes and in the time that they take to arrive; what
// is over a bound never reaches the handler. Services that are dropped while
// calls are under way do not end them.
package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/vanguard"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"  // so that gRPC's own server, beside the edge, understands what the edge does
	_ "google.golang.org/grpc/encoding/proto" // the codec that New looks up
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Defaults of [Options].
const (
	DefaultMaxRequest  = 1 << 20
	DefaultMaxMessage  = 8 << 20
	DefaultReadTimeout = 10 * time.Second
)

// Options of an [Edge].
type Options struct {
	// Handler gets every call. Its stream's context has the metadata, the peer,
	// the deadline and the method of the call. Required.
	Handler grpc.StreamHandler
	// Codec translates between frames and what Handler sends and receives. Nil:
	// protobuf messages.
	Codec encoding.CodecV2
	// Next gets requests for paths that are no method's. Nil: they are answered
	// with 404.
	Next http.Handler
	// Serving tells whether services that are not there may be soon: their calls
	// are then answered with 503. Nil: they will not.
	Serving func() bool
	// MaxRequest bounds one request message in bytes, as sent and decompressed.
	// Zero: DefaultMaxRequest.
	MaxRequest int
	// MaxMessage bounds one answer in bytes, as protobuf. Zero:
	// DefaultMaxMessage.
	MaxMessage int
	// ReadTimeout bounds the time in which the request of a method that takes
	// one message must arrive. Zero: DefaultReadTimeout.
	ReadTimeout time.Duration
	// Log hears of what no caller is told. Nil: silent.
	Log *slog.Logger
}

// An Edge is an [http.Handler] in front of services. It is safe for concurrent
// use, and holds nothing that would have to be closed.
type Edge struct {
	options Options

	mu       sync.Mutex // serialises writers of services
	services atomic.Pointer[map[string]*service]
}

type service struct {
	transcoder *vanguard.Transcoder
	methods    map[string]*method
}

// A method is what the edge needs to know of one.
type method struct {
	transcoder   *vanguard.Transcoder
	input        string // the full name of the request's type
	clientStream bool
	serverStream bool
	readOnly     bool
}

// New returns an edge without services.
func New(options Options) (*Edge, error) {
	if options.Handler == nil {
		return nil, errors.New("edge: no handler")
	}
	if options.Codec == nil {
		options.Codec = encoding.GetCodecV2("proto")
	}
	if options.MaxRequest <= 0 {
		options.MaxRequest = DefaultMaxRequest
	}
	if options.MaxMessage <= 0 {
		options.MaxMessage = DefaultMaxMessage
	}
	if options.ReadTimeout <= 0 {
		options.ReadTimeout = DefaultReadTimeout
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	e := &Edge{options: options}
	e.services.Store(&map[string]*service{})
	return e, nil
}

// Set serves a service, in place of one of the same name if there is one: calls
// under way end as they began. The descriptor need not be registered anywhere.
// It is an error if the name has no package, since its paths could then be those
// of other handlers, or if the descriptor does not hold together.
func (e *Edge) Set(sd protoreflect.ServiceDescriptor) error {
	name := string(sd.FullName())
	if !strings.Contains(name, ".") {
		return fmt.Errorf("edge: service %q: has no package", name)
	}
	s, err := e.newService(sd)
	if err != nil {
		return fmt.Errorf("edge: service %q: %w", name, err)
	}
	e.change(func(services map[string]*service) { services[name] = s })
	return nil
}

// Drop serves a service no longer. Calls of it that are under way go on.
func (e *Edge) Drop(name protoreflect.FullName) {
	e.change(func(services map[string]*service) { delete(services, string(name)) })
}

func (e *Edge) change(apply func(map[string]*service)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := maps.Clone(*e.services.Load())
	apply(next)
	e.services.Store(&next)
}

// newService makes a transcoder for one service alone: a broken one then cannot
// stop the others, and routes that google.api.http options ask for are never
// reached, because the edge chooses the service by its exact path first.
func (e *Edge) newService(sd protoreflect.ServiceDescriptor) (*service, error) {
	// Four times the limit, which the call itself holds: JSON is longer than
	// protobuf, and the transcoder's own error names no reason.
	buffer := uint32(min(4*max(e.options.MaxMessage, e.options.MaxRequest), 1<<31))
	t, err := vanguard.NewTranscoder(
		[]*vanguard.Service{vanguard.NewServiceWithSchema(sd, http.HandlerFunc(target))},
		vanguard.WithCodec(newStrictJSON),
		boundedGzip(e.options.MaxRequest),
		vanguard.WithDefaultServiceOptions(
			vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
			vanguard.WithTargetCodecs(vanguard.CodecProto),
			vanguard.WithNoTargetCompression(),
			vanguard.WithMaxMessageBufferBytes(buffer),
		))
	if err != nil {
		return nil, err
	}
	s := &service{transcoder: t, methods: map[string]*method{}}
	for i := range sd.Methods().Len() {
		md := sd.Methods().Get(i)
		options, _ := md.Options().(*descriptorpb.MethodOptions)
		s.methods[string(md.Name())] = &method{
			transcoder:   t,
			input:        string(md.Input().FullName()),
			clientStream: md.IsStreamingClient(),
			serverStream: md.IsStreamingServer(),
			readOnly:     options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS,
		}
	}
	return s, nil
}

// ServeHTTP implements [http.Handler].
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	s := (*e.services.Load())[name]
	if s == nil {
		e.serveOther(w, r, name, rest)
		return
	}
	m := s.methods[rest]
	if m == nil {
		e.serveUnknown(w, r, "unknown_method", fmt.Sprintf("%s has no method %q", name, rest))
		return
	}
	e.serveMethod(w, r, m)
}

// serveOther answers for paths that no service has. Those of services have two
// segments and a dot in the first; whatever else a host serves has not.
func (e *Edge) serveOther(w http.ResponseWriter, r *http.Request, name, rest string) {
	switch {
	case strings.Contains(name, ".") && rest != "" && !strings.Contains(rest, "/"):
		e.serveUnknown(w, r, "unknown_service", fmt.Sprintf("no service %q is served here", name))
	case e.options.Next != nil:
		e.options.Next.ServeHTTP(w, r)
	default:
		notFound(r.URL.Path).refuse(w, r)
	}
}

// serveUnknown answers calls of methods that are not there, gRPC's as its own
// server would: the handler knows what to say.
func (e *Edge) serveUnknown(w http.ResponseWriter, r *http.Request, reason, text string) {
	if t := mediaType(r.Header); isGRPC(t) && r.Method == http.MethodPost && r.ProtoMajor >= 2 {
		e.serveGRPC(w, r, &method{clientStream: true, serverStream: true})
		return
	}
	if e.options.Serving != nil && !e.options.Serving() {
		notYet().refuse(w, r)
		return
	}
	unimplemented(reason, text).refuse(w, r)
}

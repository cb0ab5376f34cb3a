package router

import (
	"context"
	"fmt"
	"maps"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/internal/reason"
)

// metaNamespace is the pair in which a resolver says where the session lives.
// core/recipe has the same name.
const metaNamespace = "conclave-namespace"

const defaultNamespace = "default"

// A Resolver finds the sessions that calls name. It is safe for concurrent use.
type Resolver interface {
	// Resolve returns the metadata by which a recipe knows the session:
	// conclave-lease and the others, conclave-namespace among them. namespace
	// is what the request says, empty if it says nothing. ctx is the call's; its
	// incoming metadata name the caller as conclave-identity, if he is known.
	// The router hands them on as they are: they do not change any more.
	// The error is the answer to the call.
	Resolve(ctx context.Context, sessionID, namespace string) (metadata.MD, error)
}

// sessionFields says where a request carries its session.
type sessionFields struct {
	name      string
	id        protowire.Number
	namespace protowire.Number // 0: the request has none
	optional  bool
}

func newSessionFields(request protoreflect.MessageDescriptor, options *recipev1.Method) (*sessionFields, error) {
	f := &sessionFields{name: options.GetSessionField(), optional: options.GetSessionOptional()}
	fd := request.Fields().ByName(protoreflect.Name(f.name))
	if fd == nil || fd.Kind() != protoreflect.StringKind || fd.IsList() {
		return nil, fmt.Errorf("its session field %s is no string field of %s", f.name, request.FullName())
	}
	f.id = fd.Number()
	if fd := request.Fields().ByName("namespace"); fd != nil && fd.Kind() == protoreflect.StringKind && !fd.IsList() {
		f.namespace = fd.Number()
	}
	return f, nil
}

// resolveSession reads the session that the first message names and gives the
// service what it needs to attach keys to its lease.
func (r *Router) resolveSession(rt *route, next handler) handler {
	fields := rt.method.session
	if fields == nil || r.sessions == nil || r.trusted {
		return next
	}
	return func(c *call) error {
		first, err := c.peek()
		if err != nil {
			return firstMissing(err)
		}
		id, namespace, err := fields.read(first.bytes())
		if err != nil {
			return reason.Errorf(codes.InvalidArgument, "invalid_request", "the message is no %s: %v", rt.method.Descriptor.Input().FullName(), err)
		}
		if id == "" {
			if fields.optional {
				return next(c)
			}
			return reason.Errorf(codes.InvalidArgument, "invalid_session_id", "%s: is empty; open a session first", fields.name)
		}
		session, err := r.sessions.Resolve(c.ctx, id, namespace)
		if err != nil {
			return err
		}
		if fields.namespace != 0 && !sameNamespace(session, namespace) {
			return reason.Errorf(codes.InvalidArgument, "invalid_namespace", "namespace: %q is not the session's", orDefaultNamespace(namespace))
		}
		c.addSession(session)
		return next(c)
	}
}

func sameNamespace(session metadata.MD, namespace string) bool {
	v := session[metaNamespace] // in lower case already
	return len(v) == 1 && orDefaultNamespace(v[0]) == orDefaultNamespace(namespace)
}

func orDefaultNamespace(s string) string {
	if s == "" {
		return defaultNamespace
	}
	return s
}

// addSession adds the session's pairs to the metadata. Who calls is what
// authorisation found out, whoever opened the session.
func (c *call) addSession(session metadata.MD) {
	if len(c.md) == 0 { // as a rule: then nobody is known to call, and no map is needed
		c.setMetadata(session)
		return
	}
	md := make(metadata.MD, len(c.md)+len(session))
	maps.Copy(md, c.md)
	for k, v := range session {
		if k != metaIdentity || c.identity == "" {
			md[k] = v
		}
	}
	c.setMetadata(md)
}

// read takes the two fields from a message's wire form. Of a field that is there
// more than once the last counts, as for whoever decodes the message.
func (f *sessionFields) read(b []byte) (id, namespace string, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", "", protowire.ParseError(n)
		}
		b = b[n:]
		if kind == protowire.BytesType && (number == f.id || number == f.namespace) {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return "", "", protowire.ParseError(n)
			}
			if number == f.id {
				id = string(v)
			} else {
				namespace = string(v)
			}
			b = b[n:]
			continue
		}
		n = protowire.ConsumeFieldValue(number, kind, b)
		if n < 0 {
			return "", "", protowire.ParseError(n)
		}
		b = b[n:]
	}
	return id, namespace, nil
}

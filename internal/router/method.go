package router

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/internal/incall"
)

// A Method is what the chain knows of the method that is called. It is shared by
// all calls and never changes.
type Method struct {
	// Owner is the name under which the service was registered.
	Owner string
	// FullName is "/package.Service/Method".
	FullName string
	// Descriptor describes the method.
	Descriptor protoreflect.MethodDescriptor
	// Permission is what a caller needs. It is never unspecified: whoever
	// declares none asks for administration.
	Permission recipev1.Permission

	class   class
	session *sessionFields
}

// Service returns the full name of the method's service.
func (m *Method) Service() string { return string(m.Descriptor.Parent().FullName()) }

// Name returns the method's name within its service.
func (m *Method) Name() string { return string(m.Descriptor.Name()) }

// MethodFrom returns the method of the call that ctx belongs to, or nil if ctx
// belongs to none.
func MethodFrom(ctx context.Context) *Method {
	if c, ok := callFrom(ctx); ok {
		return c.route.method
	}
	return nil
}

// callFrom returns the call that ctx belongs to.
func callFrom(ctx context.Context) (*call, bool) {
	c, ok := incall.From(ctx).(*call)
	return c, ok
}

func newMethod(owner string, md protoreflect.MethodDescriptor, own bool) (*Method, error) {
	m := &Method{
		Owner:      owner,
		FullName:   fmt.Sprintf("/%s/%s", md.Parent().FullName(), md.Name()),
		Descriptor: md,
		Permission: recipev1.Permission_PERMISSION_ADMIN,
	}
	options, _ := proto.GetExtension(md.Options(), recipev1.E_Method).(*recipev1.Method)
	if p := options.GetPermission(); p != recipev1.Permission_PERMISSION_UNSPECIFIED {
		m.Permission = p
	}
	if own {
		m.Permission = recipev1.Permission_PERMISSION_PUBLIC
	}
	m.class = classOf(md, own, options.GetWaits())
	if options.GetSessionField() == "" {
		return m, nil
	}
	fields, err := newSessionFields(md.Input(), options)
	if err != nil {
		return nil, fmt.Errorf("method %s: %w", m.FullName, err)
	}
	m.session = fields
	return m, nil
}

// idempotency returns what the method's author declared.
func idempotency(md protoreflect.MethodDescriptor) descriptorpb.MethodOptions_IdempotencyLevel {
	options, _ := md.Options().(*descriptorpb.MethodOptions)
	return options.GetIdempotencyLevel()
}

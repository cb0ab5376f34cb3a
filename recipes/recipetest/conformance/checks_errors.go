package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/conclavehq/conclave/core/recipe"
)

const (
	// brief bounds a call of which it is not known whether it waits.
	brief = 500 * time.Millisecond
	// abreast is how many such calls are under way at one time.
	abreast = 16
)

// checkErrors calls every method with requests of all kinds.
func checkErrors(ctx context.Context, s *Suite) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	who, err := p.caller(ctx, "anybody")
	if err != nil {
		return err
	}
	methods, err := p.methods(ctx)
	if err != nil {
		return err
	}
	var (
		mu    sync.Mutex
		wrong = map[protoreflect.FullName]error{} // the first of each method
		work  sync.WaitGroup
	)
	slots := make(chan struct{}, abreast)
	for _, m := range methods {
		for _, req := range oddRequests(m, who.id) {
			slots <- struct{}{}
			work.Go(func() {
				defer func() { <-slots }()
				if err := p.try(ctx, m, req); err != nil && badError(err) != nil {
					mu.Lock()
					defer mu.Unlock()
					if wrong[m.FullName()] == nil {
						wrong[m.FullName()] = fmt.Errorf("%s answers %.300s with %w: %w", m.FullName(), protoText(req), err, badError(err))
					}
				}
			})
		}
	}
	work.Wait()
	var all []error
	for _, m := range methods {
		all = append(all, wrong[m.FullName()])
	}
	return errors.Join(errors.Join(all...), who.end(ctx, p))
}

// try calls a method for a moment. The end of that moment is no error, nor is a
// stream without a message.
func (p *place) try(ctx context.Context, m protoreflect.MethodDescriptor, req proto.Message) error {
	if req == nil {
		req = dynamicpb.NewMessage(m.Input())
	}
	within, cancel := context.WithTimeout(ctx, brief)
	defer cancel()
	_, err := p.invoke(within, m, req)
	if errors.Is(err, io.EOF) || within.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return err
}

// badError says what is wrong with an error of a call.
func badError(err error) error {
	why := recipe.Reason(err)
	switch code := status.Code(err); {
	case code == codes.Unknown && why == recipe.ReasonUnknownOutcome:
		return nil
	case code == codes.Unknown:
		return errors.New("the code UNKNOWN is for outcomes that nobody knows, with the reason outcome_unknown")
	case code == codes.Internal:
		return errors.New("the code INTERNAL is a fault of the recipe: see what it logged")
	case code == codes.Unimplemented:
		return errors.New("the method is described and not implemented")
	case why == "" && code != codes.DeadlineExceeded && code != codes.Canceled:
		return errors.New("it has no reason; recipe.Errorf makes errors that do")
	}
	return nil
}

func protoText(m proto.Message) string {
	if d, ok := m.(fmt.Stringer); ok {
		return oneLine(d.String())
	}
	return ""
}

// oddRequests are requests that a method's author may not have thought of: an empty
// one, and one for every odd value of every field.
func oddRequests(m protoreflect.MethodDescriptor, session string) []proto.Message {
	requests := []proto.Message{dynamicpb.NewMessage(m.Input())}
	sessionField := protoreflect.Name(options(m).GetSessionField())
	base := func() *dynamicpb.Message {
		req := dynamicpb.NewMessage(m.Input())
		if f := m.Input().Fields().ByName(sessionField); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
			req.Set(f, protoreflect.ValueOfString(session))
		}
		return req
	}
	requests = append(requests, base())
	named := base()
	name(named, "conformance-odd")
	requests = append(requests, named)
	fields := m.Input().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		for _, v := range oddValues(f) {
			req := base()
			name(req, "conformance-odd")
			v(req)
			requests = append(requests, req)
		}
	}
	return requests
}

// name fills the fields that are as a rule the name of what a call is about.
func name(req *dynamicpb.Message, to string) {
	for _, field := range []protoreflect.Name{"name", "key", "id"} {
		if f := req.Descriptor().Fields().ByName(field); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
			req.Set(f, protoreflect.ValueOfString(to))
		}
	}
}

package host

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
)

// adminName is the name under which services for administrators are registered;
// no recipe can have it.
const adminName = "admin"

// WithAdmin serves services to administrators only: they may be of a package that
// is kept for the host, and answer on the administrator's socket alone, unless
// overTCP says that this host's address may reach them too, such as on a
// developer's machine. Others are told PERMISSION_DENIED, not_permitted.
// register is called while the host starts; what it registers appears in
// reflection and in the documents. Options of this kind add up, and any of them
// opens all services to TCP.
func WithAdmin(overTCP bool, register func(reg grpc.ServiceRegistrar)) Option {
	return func(o *options) {
		o.admin = append(o.admin, register)
		o.adminTCP = o.adminTCP || overTCP
	}
}

// publishAdmin serves the services for administrators.
func (h *Host) publishAdmin() error {
	if len(h.opts.admin) == 0 {
		return nil
	}
	p := h.parts
	if !h.opts.adminTCP {
		p.router.Use(administratorsOnly)
	}
	p.admin = p.router.Registrar(adminName, router.AllowReserved())
	for _, register := range h.opts.admin {
		register(p.admin)
	}
	return h.publish(p.admin)
}

// administratorsOnly refuses calls of services for administrators that came by
// another way than the administrator's socket. What its mode lets in is the user
// who runs the host.
func administratorsOnly(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	m := router.MethodFrom(ss.Context())
	if m == nil || m.Owner != adminName || bySocket(ss) {
		return next(srv, ss)
	}
	return recipe.Errorf(codes.PermissionDenied, recipe.ReasonNotPermitted,
		"%s is for the host's administrator: call it on the socket in its data directory", info.FullMethod)
}

// bySocket says that a call came by a unix socket; the API's own address is none.
func bySocket(ss grpc.ServerStream) bool {
	p, ok := peer.FromContext(ss.Context())
	return ok && p.Addr != nil && p.Addr.Network() == "unix"
}

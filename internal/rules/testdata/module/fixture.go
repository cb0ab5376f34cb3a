// Package fixture imports what no library may import.
package fixture

import (
	"os"

	"go.uber.org/fx"
)

var _ = fx.New(os.Args, doesNotCompile)

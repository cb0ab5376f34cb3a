// Package recipev1 has the options that a recipe sets on its methods.
package recipev1

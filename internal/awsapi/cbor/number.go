package cbor

import "math"

// Number is an integer from -2^64 to 2^64-1 or a floating-point number.
type Number struct {
	arg      uint64 // of an integer; a negative one is -1-arg
	negative bool
	float    float64
	isFloat  bool
}

// Number reads an integer of any width or a float of 16, 32 or 64 bits.
func (r *Reader) Number() (Number, bool) {
	major, info, arg, ok := r.head()
	switch {
	case !ok:
		return Number{}, false
	case major == majorUnsigned:
		return Number{arg: arg}, true
	case major == majorNegative:
		return Number{arg: arg, negative: true}, true
	case major != majorSimple:
		return Number{}, false
	case info == info16:
		return Number{float: float16(uint16(arg)), isFloat: true}, true
	case info == info32:
		return Number{float: float64(math.Float32frombits(uint32(arg))), isFloat: true}, true
	case info == info64:
		return Number{float: math.Float64frombits(arg), isFloat: true}, true
	}
	return Number{}, false
}

// float16 is the value of a float of 16 bits: 1 of sign, 5 of exponent, 10 of fraction.
func float16(bits uint16) float64 {
	exponent, fraction := int(bits>>10&31), float64(bits&1023)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(fraction, -24)
	case 31:
		f = math.Inf(1)
		if fraction != 0 {
			return math.NaN()
		}
	default:
		f = math.Ldexp(fraction+1024, exponent-25)
	}
	if bits>>15 == 1 {
		return -f
	}
	return f
}

// IsFloat reports whether the number was written as a float, whole or not.
func (n Number) IsFloat() bool { return n.isFloat }

// IsNaN reports whether the number is none.
func (n Number) IsNaN() bool { return n.isFloat && math.IsNaN(n.float) }

// Float is the number as a float64, the nearest one if it is a large integer.
func (n Number) Float() float64 {
	switch {
	case n.isFloat:
		return n.float
	case n.negative:
		return -1 - float64(n.arg)
	}
	return float64(n.arg)
}

// Int is the number as an int64: the fraction is cut off, and a number out of range becomes the end
// of the range next to it. NaN is 0.
func (n Number) Int() int64 {
	switch {
	case n.isFloat:
		return ClampInt(n.float)
	case n.arg > math.MaxInt64 && n.negative:
		return math.MinInt64
	case n.arg > math.MaxInt64:
		return math.MaxInt64
	case n.negative:
		return -1 - int64(n.arg)
	}
	return int64(n.arg)
}

// ClampInt cuts the fraction of f off; out of range is the end of the range next to it, NaN is 0.
func ClampInt(f float64) int64 {
	switch {
	case math.IsNaN(f):
		return 0
	case f >= math.MaxInt64: // as a float64 this is 2^63, the first that is too large
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

package lambdaevent

import "strconv"

// ErrorRecord is one record that could not be processed, as it is written to the error output of
// type processing-failed.
type ErrorRecord struct {
	RawData       []byte // the record as it came, before any transform
	ErrorCode     string
	ErrorMessage  string
	AttemptsMade  int
	Arrived       int64 // ms since the epoch
	AttemptEnding int64 // ms since the epoch: when the last attempt ended
	LambdaARN     string
}

// AppendErrorRecord appends r as one line of JSON, newline included. An empty LambdaARN is left
// out: failures that no function had a part in use the same form.
func AppendErrorRecord(dst []byte, r *ErrorRecord) []byte {
	dst = appendBase64(append(dst, `{"rawData":"`...), r.RawData)
	dst = appendString(append(dst, `","errorCode":`...), r.ErrorCode)
	dst = appendString(append(dst, `,"errorMessage":`...), r.ErrorMessage)
	dst = strconv.AppendInt(append(dst, `,"attemptsMade":`...), int64(r.AttemptsMade), 10)
	dst = strconv.AppendInt(append(dst, `,"arrivalTimestamp":`...), r.Arrived, 10)
	dst = strconv.AppendInt(append(dst, `,"attemptEndingTimestamp":`...), r.AttemptEnding, 10)
	if r.LambdaARN != "" {
		dst = appendString(append(dst, `,"lambdaARN":`...), r.LambdaARN)
	}
	return append(dst, "}\n"...)
}

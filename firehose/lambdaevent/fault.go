package lambdaevent

import "fmt"

// Fault says in which way a transform went wrong for a record, or for a whole response.
type Fault uint8

const (
	NoFault            Fault = iota
	MarkedFailed             // the function's result for the record is ProcessingFailed
	InvalidResult            // result is none of Ok, Dropped and ProcessingFailed
	InvalidData              // data is not a base64 string
	InvalidMetadata          // metadata is not of the documented form, or a partition key is no scalar
	MissingData              // result is Ok, but data is absent or null
	MissingRecordID          // the response has no answer for the record
	DuplicatedRecordID       // the response has several answers for the record
	FunctionError            // the function itself reported an error
	NotJSON                  // the response is not JSON
	NoRecords                // the response is JSON without an array named records
)

const (
	functionError = "Lambda.FunctionError"
	missingID     = "Lambda.MissingRecordId"

	badForm   = "Check your function and make sure the output is in required format. In addition to that, make sure the processed records contain valid result status of Dropped, Ok, or ProcessingFailed"
	idMissing = "One or more record Ids were not returned. Ensure that the Lambda function returns all received record Ids."
)

// faults holds the errorCode and errorMessage of each Fault. Those of MissingData and NotJSON have
// our own message: AWS's is not known.
var faults = [...]struct{ code, message string }{
	NoFault:            {"", ""},
	MarkedFailed:       {"Lambda.ProcessingFailedStatus", "ProcessingFailed status set for record"},
	InvalidResult:      {functionError, badForm},
	InvalidData:        {functionError, badForm},
	InvalidMetadata:    {functionError, badForm},
	MissingData:        {"Lambda.InvalidReturnFormat", "The Lambda function returned the result Ok without data. Ensure that every record with this result has data, which may be empty."},
	MissingRecordID:    {missingID, idMissing},
	DuplicatedRecordID: {"Lambda.DuplicatedRecordId", "Multiple records were returned with the same record Id. Ensure that the Lambda function returns a unique record Id for each record."},
	FunctionError:      {functionError, "The Lambda function was successfully invoked but it returned an error result."},
	NotJSON:            {"Lambda.JsonProcessingException", "The Lambda function returned a response that is not JSON."},
	NoRecords:          {missingID, idMissing},
}

// Code is the errorCode of an error record, such as "Lambda.FunctionError"; "" for NoFault.
func (f Fault) Code() string { return faults[f].code }

// Message is the errorMessage of an error record.
func (f Fault) Message() string { return faults[f].message }

// ResponseError is the error of a response in which no answer could be recognised.
type ResponseError struct {
	Fault Fault  // NotJSON or NoRecords
	Start string // the response's first bytes, at most 100
}

func (e *ResponseError) Error() string {
	what := "is not JSON"
	if e.Fault == NoRecords {
		what = `is not an object with an array "records"`
	}
	return fmt.Sprintf("the function's response %s; return {\"records\":[{\"recordId\",\"result\",\"data\"}]} (it starts with %q)", what, e.Start)
}

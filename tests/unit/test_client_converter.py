"""Where the SDK does not show the client's converter, nothing is sent, and the log says so once."""

from temporalio.converter import DataConverter

from temporal_token_interceptor.worker.data_converter import ClientConverter


def test_a_converter_that_cannot_be_found_is_said_once(caplog):
    """Without it nobody knows whether tokens must be sealed: the log names the argument that decides it."""
    converter = ClientConverter(None)

    found = [converter.of_activity(None) for _ in range(3)]

    assert found == [None] * 3
    assert ["data_converter=client.data_converter" in record.message for record in caplog.records] == [True]


def test_a_converter_that_was_given_is_not_looked_for(caplog):
    """My own word counts, also where the client has another."""
    mine = DataConverter.default

    assert ClientConverter(mine).of_activity(None) is mine
    assert ClientConverter(mine).of_operation() is mine
    assert not caplog.records

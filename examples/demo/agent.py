"""An agent as you would write it. Nothing here knows of Temporal, of Redis or of streaming."""

from langchain.agents import create_agent

from examples.demo.model import model  # yours would be init_chat_model("..."): this one needs no key

CARRIER_LOG = {"1042": "Mon 18:02 left Rotterdam; Tue 07:40 customs, cleared; Wed out for delivery"}


async def track_parcel(order: str) -> str:
    """Say where the parcel of an order is."""
    report = await model.ainvoke(f"Put this log into one sentence: {CARRIER_LOG[order]}")
    return report.text


agent = create_agent(model, tools=[track_parcel], system_prompt="You answer the customers of a bookshop.")
